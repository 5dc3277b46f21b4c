//! The worker of the shipping process: one thread, one task for each queue.
//!
//! Takes: the sensor's line as standard input, with the orders. Gives: files at their destinations, and a status on each change and once a second. Holds: the cage is closed before
//! anything is read but the orders; the end of the line is the end of the work, at once, for all that has to be known later is on the disk.

mod attempts;
mod backoff;
mod board;
mod bucket;
mod failure;
mod group;
mod pace;
mod queue;
mod refused;
mod target;
mod upload;
mod walls;
mod wire;

use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream as Line;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::task::LocalSet;

use crate::ship::aws::Kind;
use crate::ship::process::{self, Orders};
use crate::ship::{Pending, Plan};
use crate::{logging, sandbox};
use board::Board;
use queue::Server;

/// At least so often a status is told.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// At most so often.
const TELL_REST: Duration = Duration::from_millis(50);
/// A trouble that may come from a file that was replaced under its name, which a closed cage can't see.
const BLIND: [Kind; 3] = [Kind::Credentials, Kind::Unreachable, Kind::Local];
/// How long it stands before somebody with fresh eyes is asked for.
const LOOKED_LONG: Duration = Duration::from_secs(300);

/// How the worker ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// The sensor is gone.
    Over,
    /// A follower may see more.
    Renew,
}

/// Ships until the sensor is gone.
///
/// # Errors
/// The standard input is no socket of the sensor's; the cage can't be closed as it has to be.
pub fn work() -> io::Result<End> {
    let mut line = Line::from(io::stdin().as_fd().try_clone_to_owned()?);
    let orders = match process::orders(&mut line) {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(End::Over),
        orders => orders?,
    };
    logging::init(&orders.log);
    prepare(&orders)?;
    line.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let end = runtime.block_on(ship(orders.plan, line));
    // a name that is still being looked up is not waited for
    runtime.shutdown_background();
    end
}

/// Makes the folders, which the cage lets nobody make above them, and closes it.
fn prepare(orders: &Orders) -> io::Result<()> {
    for queue in &orders.plan.queues {
        // told again by the queue itself
        let _ = Pending::at(&queue.folder).make();
    }
    let needs = walls::needs(orders);
    let enforced = sandbox::close(&orders.sandbox, &needs).map_err(io::Error::other)?;
    walls::tell(&enforced);
    Ok(())
}

async fn ship(plan: Plan, line: Line) -> io::Result<End> {
    let (sensor, told) = UnixStream::from_std(line)?.into_split();
    let board = Rc::new(Board::new(&plan));
    let tasks = LocalSet::new();
    for queue in plan.queues {
        let server = Server::new(queue, Rc::clone(&board));
        tasks.spawn_local(server.serve());
    }
    tasks
        .run_until(async {
            tokio::select! {
                () = end(sensor) => Ok(End::Over),
                end = tell(told, &board) => end,
            }
        })
        .await
}

/// The sensor says nothing after its orders; so what can be read is the end.
async fn end(mut sensor: OwnedReadHalf) {
    let mut room = [0; 64];
    while sensor.read(&mut room).await.is_ok_and(|n| n > 0) {}
}

/// Tells statuses until it is time for a follower.
async fn tell(mut told: OwnedWriteHalf, board: &Board) -> io::Result<End> {
    loop {
        let mut text = serde_json::to_vec(&board.now())?;
        text.push(b'\n');
        told.write_all(&text).await?;
        tokio::time::sleep(TELL_REST).await;
        let blind = board.is_closing() || board.has_stood(&BLIND, LOOKED_LONG);
        if blind && board.close() {
            return Ok(End::Renew);
        }
        // a second without a change is told too
        let _ = tokio::time::timeout(TELL_EVERY, board.changed()).await;
    }
}
