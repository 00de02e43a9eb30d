//! Servers of time on loopback, for daemons that ask some.

use std::net::UdpSocket;
use std::thread;

use ntp::{FineClock as _, MachineClock};

/// Three servers with the machine's own time, the last of which is ahead by so many seconds; as `[clock]` of a daemon. They
/// serve as long as the test program runs.
pub fn sources(last_ahead: u64) -> String {
    let addresses = [0, 0, last_ahead].map(server);
    let [a, b, c] = addresses.map(|address| address.to_string());
    format!(
        "[clock]\nbound_ms = 60000\nsources = {{ first = '{a}', second = '{b}', third = '{c}' }}\n"
    )
}

fn server(ahead: u64) -> std::net::SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    thread::spawn(move || {
        let mut question = [0; ntp::PACKET];
        while let Ok((n, from)) = socket.recv_from(&mut question) {
            let wall = MachineClock.wall();
            let seconds = wall.as_secs() + 2_208_988_800 + ahead;
            let parts = (u64::from(wall.subsec_nanos()) << 32) / 1_000_000_000;
            let mut answer = [0; ntp::PACKET];
            (answer[0], answer[1]) = (0x24, 1);
            answer[24..32].copy_from_slice(&question[40..n]);
            for at in [32, 40] {
                let stamp = (seconds << 32) | parts;
                answer[at..at + 8].copy_from_slice(&stamp.to_be_bytes());
            }
            // Whoever asked may have gone.
            let _ = socket.send_to(&answer, from);
        }
    });
    address
}
