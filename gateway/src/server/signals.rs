//! What the process is told from outside: SIGTERM, SIGINT and SIGHUP.

use std::sync::mpsc::Sender;

use tokio::signal::unix::{SignalKind, signal};

use super::Notice;

/// A thread that turns SIGTERM, SIGINT and SIGHUP into notices.
pub(super) fn watch(notify: Sender<Notice>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let (mut terminate, mut interrupt, mut hang_up) = {
        let _entered = runtime.enter();
        (
            signal(SignalKind::terminate())?,
            signal(SignalKind::interrupt())?,
            signal(SignalKind::hangup())?,
        )
    };
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            runtime.block_on(async move {
                loop {
                    let notice = tokio::select! {
                        _ = terminate.recv() => Notice::Terminate,
                        _ = interrupt.recv() => Notice::Interrupt,
                        _ = hang_up.recv() => Notice::Reload,
                    };
                    if notify.send(notice).is_err() {
                        return;
                    }
                }
            });
        })?;
    Ok(())
}
