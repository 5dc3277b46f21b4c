//! The ledger of a whole run, as `run`, `replay` and `demo` print it at their end and `/status` shows it.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use crate::flowlog;
use crate::packet::Tally;
use crate::pipeline::Pipeline;
use crate::sink::capture::Closed;
use crate::source::Facts;
use crate::spool::manifest::Stopped;

/// Where everything ended. As JSON: `received`, `written`, `filtered`, `dropped`, `bytes_received`,
/// `bytes_written`, then what stands below.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// All sessions together, and what belongs to none.
    #[serde(flatten)]
    pub total: Tally,
    /// Lost before it reached the program, by where the kernel counted it.
    pub kernel_dropped: BTreeMap<&'static str, u64>,
    /// Capture files published, the last ones of many.
    #[serde(serialize_with = "each")]
    pub files: Vec<Arc<Closed>>,
    /// How many were published in all.
    pub files_total: u64,
    /// Each session's own ledger.
    pub per_session: BTreeMap<String, Tally>,
    /// Each flow log, where there are any.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub flow_logs: BTreeMap<String, flowlog::Summary>,
}

fn each<S: Serializer>(files: &[Arc<Closed>], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(files.iter().map(|f| &**f))
}

impl Report {
    /// Reads the ledgers of a pipeline, running or finished.
    pub fn of(pipeline: &Pipeline) -> Self {
        let mut total = pipeline.table.unattributed.read();
        let sessions = pipeline.table.ledgers();
        for (_, _, tally) in &sessions {
            total.merge(tally);
        }
        let files = pipeline.capture.files();
        let flow_logs = pipeline.flow_logs.as_ref();
        Self {
            total,
            kernel_dropped: kernel_dropped(&pipeline.sources),
            files_total: files.total,
            files: files.last.into(),
            per_session: sessions
                .into_iter()
                .map(|(name, _, tally)| (name.to_string(), tally))
                .collect(),
            flow_logs: flow_logs.map(flowlog::Running::read).unwrap_or_default(),
        }
    }

    /// The same with every ledger closed, although a thread that is stuck may still be counting.
    pub(super) fn closed(mut self) -> Self {
        self.per_session.values_mut().for_each(Tally::close);
        self.total.close();
        self
    }

    /// The same for the last line of the manifest.
    pub(super) fn stopped(self) -> Stopped {
        let mut sessions = Tally::default();
        self.per_session.values().for_each(|t| sessions.merge(t));
        Stopped {
            unattributed: self.total.since(&sessions),
            ledger: self.total,
            kernel_dropped: self.kernel_dropped,
            unfiled: self.per_session,
            ..Stopped::default()
        }
    }
}

/// What the kernel has lost before these sources, by place.
pub(super) fn kernel_dropped(sources: &[Arc<Facts>]) -> BTreeMap<&'static str, u64> {
    let mut all = BTreeMap::new();
    for (place, lost) in sources.iter().flat_map(|s| &s.lost) {
        *all.entry(*place).or_default() += lost.value();
    }
    all
}
