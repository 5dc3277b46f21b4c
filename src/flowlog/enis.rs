//! Interfaces by number: what the wire shows of each.
//!
//! Takes: the places that packets come from. Gives: a dense number for each interface, the same for ever and for all
//! threads. Holds: two sessions or VNIs of one interface share its number; the lock is taken when a thread meets a place for the first
//! time, never for a packet. There are no more numbers than the table of peers has places.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::packet::{Endpoint, Vni};

/// The most pairs of session and VNI that are kept of an interface.
pub(super) const PAIRS: usize = 4;

/// What tells interfaces apart.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Eni {
    /// The outer source: its primary address.
    pub source: IpAddr,
    /// The Gateway Load Balancer endpoint that its packets come through, if any: addresses of different VPCs may be the same.
    pub endpoint: Option<Endpoint>,
}

/// An interface that was met, or that was told of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Met {
    pub(super) eni: Eni,
    /// The flow logs that it belongs to, one bit each.
    pub(super) logs: u32,
    /// Whose its packets are, and with which VNI they come: as many pairs as it takes to see whether either is one or several.
    pub(super) pairs: Vec<(Arc<str>, Vni)>,
}

impl Met {
    /// Adds a pair; whether it is news.
    fn see(&mut self, session: &Arc<str>, vni: Vni) -> bool {
        let another_session = self.pairs.iter().all(|(known, _)| known != session);
        let another_vni = self.pairs.iter().all(|(_, known)| *known != vni);
        let news = (another_session || another_vni) && self.pairs.len() < PAIRS;
        if news {
            self.pairs.push((Arc::clone(session), vni));
        }
        news
    }
}

#[derive(Debug, Default)]
struct Known {
    numbers: HashMap<Eni, u32>,
    met: Vec<Met>,
}

/// All interfaces.
#[derive(Debug, Default)]
pub(super) struct Enis {
    known: Mutex<Known>,
    /// Grows with all that is learnt.
    news: AtomicU64,
}

impl Enis {
    /// The number of an interface that is told of.
    pub(super) fn tell(&self, eni: Eni, logs: u32) -> u32 {
        let mut known = self.lock();
        let (number, news) = known.meet(eni, logs);
        self.note(news);
        number
    }

    /// The number of an interface of which a packet came.
    pub(super) fn meet(&self, eni: Eni, vni: Vni, session: &Arc<str>, logs: u32) -> u32 {
        let mut known = self.lock();
        let (number, mut news) = known.meet(eni, logs);
        if let Some(met) = known.met.get_mut(number as usize) {
            news |= met.see(session, vni);
        }
        self.note(news);
        number
    }

    /// Changes whenever something was learnt.
    pub(super) fn news(&self) -> u64 {
        self.news.load(Ordering::Acquire)
    }

    /// All, by number.
    pub(super) fn all(&self) -> Vec<Met> {
        self.lock().met.clone()
    }

    /// The number of an interface that is known.
    pub(super) fn number(&self, eni: &Eni) -> Option<u32> {
        self.lock().numbers.get(eni).copied()
    }

    fn note(&self, news: bool) {
        if news {
            self.news.fetch_add(1, Ordering::Release);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        // a thread that panicked in here left whole entries behind
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// Its number, and whether anything is new.
    fn meet(&mut self, eni: Eni, logs: u32) -> (u32, bool) {
        let next = self.met.len() as u32;
        let number = *self.numbers.entry(eni).or_insert(next);
        match self.met.get_mut(number as usize) {
            Some(met) => {
                let news = met.logs | logs != met.logs;
                met.logs |= logs;
                (number, news)
            }
            None => {
                self.met.push(Met {
                    eni,
                    logs,
                    pairs: Vec::new(),
                });
                (number, true)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn eni(last: u8, endpoint: Option<u64>) -> Eni {
        Eni {
            source: IpAddr::from([10, 0, 0, last]),
            endpoint: endpoint.map(Endpoint),
        }
    }

    #[test]
    fn sessions_of_one_interface_share_its_number_and_endpoints_tell_interfaces_apart() {
        let enis = Enis::default();
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        let meet = |e, v, s: &Arc<str>, logs| enis.meet(e, Vni::new(v), s, logs);
        assert_eq!(meet(eni(1, None), 7, &a, 1), 0);
        assert_eq!(meet(eni(1, None), 8, &b, 2), 0);
        assert_eq!(meet(eni(1, Some(9)), 7, &a, 1), 1);
        assert_eq!(meet(eni(2, None), 7, &a, 1), 2);
        let all = enis.all();
        assert_eq!((all[0].logs, all[0].pairs.len()), (3, 2));
        assert_eq!(all[2].pairs, [(a, Vni::new(7))]);
    }

    #[test]
    fn what_is_known_already_is_no_news() {
        let enis = Enis::default();
        let session: Arc<str> = "a".into();
        enis.tell(eni(1, None), 1);
        enis.meet(eni(1, None), Vni::new(1), &session, 1);
        let news = enis.news();
        enis.meet(eni(1, None), Vni::new(1), &session, 1);
        assert_eq!(enis.news(), news);
        assert_eq!(enis.number(&eni(1, None)), Some(0));
        assert_eq!(enis.number(&eni(9, None)), None);
    }
}
