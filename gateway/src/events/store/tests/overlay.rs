//! What is written over a file is read, and the file stays as it is.

use std::{fs::File, io::Write, sync::Arc};

use redb::StorageBackend;

use super::super::backend::Overlay;

#[test]
fn an_overlay_is_like_a_file_of_its_own() {
    let mut random = fastrand::Rng::with_seed(3);
    let mut model = vec![0; 50_000];
    random.fill(&mut model);
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&model).unwrap();
    let before = model.clone();
    let overlay = Overlay::new(Arc::new(File::open(file.path()).unwrap())).unwrap();
    overlay.set_len(60_000).unwrap();
    model.resize(60_000, 0);
    for _ in 0..200 {
        let start = random.usize(0..model.len());
        let length = random.usize(0..=(model.len() - start).min(10_000));
        let range = start..start + length;
        if random.bool() {
            random.fill(&mut model[range.clone()]);
            overlay.write(start as u64, &model[range]).unwrap();
        } else {
            let mut read = vec![0; length];
            overlay.read(start as u64, &mut read).unwrap();
            assert!(read == model[range]);
        }
    }
    assert_eq!(overlay.len().unwrap(), 60_000);
    assert!(std::fs::read(file.path()).unwrap() == before);
}
