use super::*;
use crate::transport::session::tests::{Authority, settings};

fn refusal(settings: &Tls) -> String {
    Certificates::load(settings)
        .expect_err("these settings are of no use")
        .to_string()
}

#[test]
fn each_name_has_its_certificate_and_others_the_first() {
    let (authority, folder) = (Authority::new(), tempfile::tempdir().unwrap());
    let sources = [
        authority.write(folder.path(), &["edge.example", "Edge-2.example"]),
        authority.write(folder.path(), &["*.fleet.example", "edge.example"]),
    ];
    let named = Named::load(&sources, &aws_lc_rs::default_provider()).unwrap();
    let first = named.first.clone().unwrap();
    let is_first = |name: &str| named.find(name).map(|key| Arc::ptr_eq(key, &first));
    assert_eq!(is_first("edge.example"), Some(true));
    assert_eq!(is_first("EDGE-2.EXAMPLE"), Some(true));
    assert_eq!(is_first("north.fleet.example"), Some(false));
    assert_eq!(is_first("a.north.fleet.example"), None, "one label");
    assert_eq!(is_first("fleet.example"), None);
    assert_eq!(is_first("example"), None);
}

#[test]
fn what_is_wrong_with_a_file_is_said() {
    let (authority, folder) = (Authority::new(), tempfile::tempdir().unwrap());
    let good = authority.write(folder.path(), &["edge.example"]);
    let other = authority.write(folder.path(), &["other.example"]);
    assert!(Certificates::load(&settings(Vec::new())).unwrap().is_none());
    let load = |chain: &Path, key: &Path| {
        refusal(&settings(vec![CertificateSource {
            chain: chain.to_owned(),
            key: key.to_owned(),
        }]))
    };
    let absent = folder.path().join("absent.pem");
    let says = load(&absent, &good.key);
    assert!(says.contains("absent.pem (tls.certificates)"), "{says}");
    let says = load(&good.key, &good.key);
    assert!(says.contains("holds no certificate"), "{says}");
    let says = load(&good.chain, &good.chain);
    assert!(says.contains("holds no private key"), "{says}");
    let says = load(&good.chain, &other.key);
    assert!(says.contains("do not belong together"), "{says}");
    let broken = folder.path().join("broken.pem");
    std::fs::write(
        &broken,
        "-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n",
    )
    .unwrap();
    let says = load(&broken, &good.key);
    assert!(says.contains("broken.pem"), "{says}");

    let mut of_clients = settings(vec![good]);
    of_clients.client_certificates = ClientCertificates::Optional;
    of_clients.client_authorities = Some(absent);
    let says = refusal(&of_clients);
    assert!(says.contains("(tls.client_authorities)"), "{says}");
    let file = folder.path().join("ca.pem");
    std::fs::write(&file, authority.pem()).unwrap();
    of_clients.client_authorities = Some(file.clone());
    assert!(Certificates::load(&of_clients).is_ok());
    of_clients.client_revoked = vec![file];
    let says = refusal(&of_clients);
    assert!(says.contains("holds no CRL"), "{says}");
}

#[test]
fn a_reload_is_all_or_nothing() {
    let (authority, folder) = (Authority::new(), tempfile::tempdir().unwrap());
    let source = authority.write(folder.path(), &["edge.example"]);
    let certificates = Certificates::load(&settings(vec![source.clone()]))
        .unwrap()
        .unwrap();
    let before = certificates.current();
    std::fs::write(&source.chain, "").unwrap();
    assert!(certificates.reload().is_err());
    assert!(Arc::ptr_eq(&before, &certificates.current()), "as before");
    authority.write(folder.path(), &["edge.example"]);
    certificates.reload().unwrap();
    assert!(!Arc::ptr_eq(&before, &certificates.current()));
}
