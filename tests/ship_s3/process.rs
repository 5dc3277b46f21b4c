//! The process itself: who stands behind which walls, how names are found and certificates checked from inside, and its end.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::fake::{Act, Fake};
use crate::rig::{Rig, Running, wait_for};

/// A field of `/proc/…/status`.
fn field(pid: u32, name: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let prefix = format!("{name}:\t");
    let value = text.lines().find_map(|line| line.strip_prefix(&prefix));
    value.unwrap().to_owned()
}

fn is_there(pid: u32) -> bool {
    // one that has ended and was not asked for yet is none
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    text.rsplit_once(") ")
        .is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

#[test]
fn both_processes_have_no_capability_the_one_that_ships_is_in_a_cage_and_both_end_with_the_sensor()
{
    let fake = Fake::start(|_| Act::Serve);
    let rig = Rig::new();
    rig.offer("file", b"1");
    // the name is looked up from inside
    let endpoint = format!("http://localhost:{}", fake.port());
    let mut running = Running::start(rig.queue(&endpoint));
    running.until_shipped(1);
    let (supervisor, worker) = (running.shipper.id(), running.worker());
    for pid in [supervisor, worker] {
        assert_eq!(field(pid, "NoNewPrivs"), "1");
        assert_eq!(field(pid, "CapEff"), "0000000000000000");
        assert_eq!(field(pid, "CapPrm"), "0000000000000000");
    }
    assert_eq!(field(worker, "Seccomp"), "2");
    // it has nothing open but its line, its log, and what it made itself
    let open = fs::read_dir(format!("/proc/{worker}/fd")).unwrap();
    let targets = open.filter_map(|fd| fs::read_link(fd.unwrap().path()).ok());
    for target in targets {
        assert!(
            !target.starts_with(env!("CARGO_MANIFEST_DIR")),
            "{target:?}"
        );
    }
    drop(running);
    wait_for("the end of both", || {
        (!is_there(supervisor) && !is_there(worker)).then_some(())
    });
}

/// A server's side of TLS, for `localhost`, with a certificate that nobody has signed but itself.
fn lock() -> Arc<rustls::ServerConfig> {
    let pem = fs::read(certificate()).unwrap();
    let certificates = CertificateDer::pem_slice_iter(&pem);
    let certificates = certificates.collect::<Result<Vec<_>, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_slice(&pem).unwrap();
    let ring = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(ring)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(certificates, key)
        .unwrap();
    Arc::new(config)
}

fn certificate() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ship_s3/localhost.pem")
}

#[test]
fn a_server_is_believed_with_the_certificates_that_were_given_and_with_no_others() {
    let fake = Fake::start_with(Some(lock()), |_| Act::Serve);
    let endpoint = format!("https://localhost:{}", fake.port());
    let certificate = certificate();
    let certificate = certificate.to_str().unwrap();
    for given in ["AWS_CA_BUNDLE", "SSL_CERT_FILE"] {
        let rig = Rig::new();
        rig.offer("file", given.as_bytes());
        let queue = rig.queue(&endpoint);
        let mut running = Running::start_with(queue, &[(given, certificate)]);
        running.until_shipped(1);
        assert_eq!(fake.object("file").unwrap(), given.as_bytes());
    }
    let rig = Rig::new();
    rig.offer("other", b"1");
    let mut running = Running::start(rig.queue(&endpoint));
    let reason = running.until_trouble("unreachable");
    assert!(reason.to_lowercase().contains("certificate"), "{reason}");
    assert_eq!(fake.object("other"), None);
}
