//! A log group, and the few calls that are made of it.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::ship::CloudWatch;
use crate::ship::aws::{Client, Failure, Kind, Settings};
use crate::ship::logs::batch::Event;

/// Events that a request brought and that were not kept, by reason.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Rejected {
    pub(super) too_new: u64,
    pub(super) too_old: u64,
    pub(super) expired: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Put<'p> {
    log_group_name: &'p str,
    log_stream_name: &'p str,
    log_events: &'p [Event],
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Answer {
    rejected_log_events_info: Option<Indices>,
}

/// Events are in the order of time: those that are too old stand at the beginning, those too new at the end.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Indices {
    /// The first that is too new.
    too_new_log_event_start_index: Option<u64>,
    /// The one behind the last that is too old.
    too_old_log_event_end_index: Option<u64>,
    /// The one behind the last that the group would not keep any more.
    expired_log_event_end_index: Option<u64>,
}

impl Indices {
    /// Of so many events. What is too old and expired as well is counted as too old.
    pub(super) fn count(&self, events: usize) -> Rejected {
        let events = events as u64;
        let too_old = self.too_old_log_event_end_index.unwrap_or(0).min(events);
        let expired = self.expired_log_event_end_index.unwrap_or(0).min(events);
        let lost = too_old.max(expired);
        let new = self.too_new_log_event_start_index.unwrap_or(events);
        Rejected {
            too_new: events.saturating_sub(new.max(lost)),
            too_old,
            expired: lost - too_old,
        }
    }
}

/// The group.
#[derive(Debug)]
pub(super) struct Group {
    client: Client,
    name: String,
    create: bool,
}

impl Group {
    pub(super) async fn open(group: &CloudWatch, settings: &Settings) -> Result<Self, Failure> {
        let endpoint = group.endpoint.as_deref();
        let endpoint = endpoint.or_else(|| settings.endpoint("CLOUDWATCH_LOGS"));
        Ok(Self {
            client: Client::new(settings, "logs", endpoint).await?,
            name: group.log_group.clone(),
            create: group.create_group,
        })
    }

    /// Puts events, and makes the stream where it is not there.
    pub(super) async fn put(&self, stream: &str, events: &[Event]) -> Result<Rejected, Failure> {
        match self.put_once(stream, events).await {
            Err(failure) if failure.is("ResourceNotFoundException") => {
                self.make_stream(stream).await?;
                self.put_once(stream, events).await
            }
            answered => answered,
        }
    }

    async fn put_once(&self, stream: &str, events: &[Event]) -> Result<Rejected, Failure> {
        let doing = format!("put events into {}", self.shown(stream));
        let put = Put {
            log_group_name: &self.name,
            log_stream_name: stream,
            log_events: events,
        };
        let json = serde_json::to_vec(&put)
            .map_err(|error| Failure::new(Kind::Refused, format!("cannot {doing}: {error}")))?;
        let answer = self.call("PutLogEvents", json.into(), &doing).await?;
        // a server that has nothing to say of rejected ones may say nothing at all
        let answer: Answer = serde_json::from_str(&answer).unwrap_or_default();
        let indices = answer.rejected_log_events_info.unwrap_or_default();
        Ok(indices.count(events.len()))
    }

    async fn make_stream(&self, stream: &str) -> Result<(), Failure> {
        match self.create_stream(stream).await {
            Err(failure) if failure.is("ResourceNotFoundException") && self.create => {
                self.create_group().await?;
                self.create_stream(stream).await
            }
            Err(mut failure) if failure.is("ResourceNotFoundException") => {
                let name = &self.name;
                failure.reason = format!(
                    "there is no log group \"{name}\" ({}); make it, or set create_group = true",
                    failure.reason
                );
                Err(failure)
            }
            answered => answered,
        }
    }

    async fn create_stream(&self, stream: &str) -> Result<(), Failure> {
        let json = json!({"logGroupName": self.name, "logStreamName": stream});
        let doing = format!("make {}", self.shown(stream));
        let made = self.call("CreateLogStream", bytes(&json), &doing).await;
        there_already(made)
    }

    async fn create_group(&self) -> Result<(), Failure> {
        let json = json!({"logGroupName": self.name});
        let doing = format!("make the log group {}", self.name);
        there_already(self.call("CreateLogGroup", bytes(&json), &doing).await)
    }

    async fn call(&self, what: &str, json: Bytes, doing: &str) -> Result<String, Failure> {
        let target = format!("Logs_20140328.{what}");
        self.client.call(&target, json, doing).await
    }

    fn shown(&self, stream: &str) -> String {
        format!("the log stream {stream} of {}", self.name)
    }
}

fn bytes(json: &serde_json::Value) -> Bytes {
    json.to_string().into()
}

/// Somebody was faster, which is as good.
fn there_already(made: Result<String, Failure>) -> Result<(), Failure> {
    match made {
        Err(failure) if !failure.is("ResourceAlreadyExistsException") => Err(failure),
        _ => Ok(()),
    }
}
