//! Ctrl-C for verbs that run for a while: the first asks to stop, the second leaves at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::signal::unix::{SignalKind, signal};

/// How often SIGINT or SIGTERM has come.
#[derive(Clone, Debug, Default)]
pub(super) struct Interrupts(Arc<AtomicU32>);

impl Interrupts {
    /// Watches from now on. Where signals can't be watched, they keep their default effect.
    pub(super) fn watch() -> Self {
        let this = Self::default();
        let count = Arc::clone(&this.0);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            if let Ok(runtime) = runtime {
                // an error means that signals keep their default effect: the process ends
                let _ = runtime.block_on(count_signals(&count));
            }
        });
        this
    }

    /// Whether to stop.
    pub(super) fn stop(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= 1
    }

    /// Whether to leave at once.
    pub(super) fn leave(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= 2
    }
}

async fn count_signals(count: &AtomicU32) -> std::io::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    loop {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        count.fetch_add(1, Ordering::Relaxed);
    }
}
