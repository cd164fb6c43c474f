//! The system's processes and their sockets, as Linux shows them under `/proc`. Elsewhere nothing is seen.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;

/// How often it is looked whose a connection is.
const LOOKS: usize = 3;

/// One process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) id: i32,
    parent: i32,
    pub(super) group: i32,
}

/// The processes below this one: its children, theirs, and so on. Those that have ended are not among them.
pub(super) fn below(root: i32) -> Vec<Process> {
    family(&all(), root)
}

fn family(all: &[Process], root: i32) -> Vec<Process> {
    let mut family = BTreeSet::from([root]);
    // Parents may be younger than their children, once they have adopted them.
    while all
        .iter()
        .filter(|process| family.contains(&process.parent))
        .any(|process| !family.contains(&process.id))
    {
        let found: Vec<i32> =
            all.iter().filter(|process| family.contains(&process.parent)).map(|process| process.id).collect();
        family.extend(found);
    }
    all.iter().filter(|process| process.id != root && family.contains(&process.id)).copied().collect()
}

/// How the processes of a replica are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// They are below this one.
    Below(i32),
    /// They listen on this port.
    Listening(u16),
}

/// Whose process has the first of these ends of a connection; the second is ours.
pub(super) fn owner(marks: &[Option<Mark>], ends: [SocketAddr; 2]) -> Option<usize> {
    // The system reads its tables out in pieces, and what moves meanwhile can be missed.
    (0..LOOKS).find_map(|_| owner_now(marks, ends))
}

fn owner_now(marks: &[Option<Mark>], [local, remote]: [SocketAddr; 2]) -> Option<usize> {
    let (sockets, all) = (sockets(), all());
    // Connections to several places may share a port.
    let inode = sockets.iter().find(|socket| (socket.local, socket.remote) == (local, remote))?.inode;
    let listens_on = |port: u16, open: &BTreeSet<u64>| {
        let mut listening = sockets.iter().filter(|socket| socket.listens && socket.local.port() == port);
        listening.any(|socket| open.contains(&socket.inode))
    };
    let has_it = |mark: &Mark| match *mark {
        Mark::Below(root) => {
            family(&all, root).iter().any(|process| open_sockets(process.id).contains(&inode))
        }
        Mark::Listening(port) => {
            let mut open = all.iter().map(|process| open_sockets(process.id));
            open.any(|open| open.contains(&inode) && listens_on(port, &open))
        }
    };
    marks.iter().position(|mark| mark.as_ref().is_some_and(has_it))
}

/// The ports on which the processes below this one listen.
pub(super) fn ports(root: i32) -> BTreeSet<u16> {
    let open: BTreeSet<u64> = below(root).iter().flat_map(|process| open_sockets(process.id)).collect();
    let listening = sockets().into_iter().filter(|socket| socket.listens && open.contains(&socket.inode));
    listening.map(|socket| socket.local.port()).collect()
}

/// The sockets that a process has open, as far as we may see them.
fn open_sockets(process: i32) -> BTreeSet<u64> {
    let open = fs::read_dir(format!("/proc/{process}/fd")).into_iter().flatten().flatten();
    let links = open.filter_map(|entry| fs::read_link(entry.path()).ok());
    links
        .filter_map(|link| link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok())
        .collect()
}

fn all() -> Vec<Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    ids.filter_map(|id: i32| process(id, &fs::read_to_string(format!("/proc/{id}/stat")).ok()?)).collect()
}

/// Reads `id (name) state parent group …` (proc_pid_stat(5)); the name may hold anything.
fn process(id: i32, stat: &str) -> Option<Process> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let has_ended = matches!(fields.next()?, "Z" | "X" | "x");
    let (parent, group) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    (!has_ended).then_some(Process { id, parent, group })
}

/// One end of a connection, or a socket that waits for some.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Socket {
    local: SocketAddr,
    remote: SocketAddr,
    listens: bool,
    inode: u64,
}

fn sockets() -> Vec<Socket> {
    let tables =
        ["/proc/net/tcp", "/proc/net/tcp6"].map(|table| fs::read_to_string(table).unwrap_or_default());
    tables.iter().flat_map(|table| table.lines().skip(1)).filter_map(socket).collect()
}

/// Reads a line of `/proc/net/tcp` (proc_pid_net(5)).
fn socket(line: &str) -> Option<Socket> {
    const LISTENS: &str = "0A";
    let mut fields = line.split_ascii_whitespace();
    let (local, remote, state) = (address(fields.nth(1)?)?, address(fields.next()?)?, fields.next()?);
    Some(Socket { local, remote, listens: state == LISTENS, inode: fields.nth(5)?.parse().ok()? })
}

/// Reads `0100007F:1F90`: words in the machine's own order of bytes, and a port.
fn address(text: &str) -> Option<SocketAddr> {
    let (words, port) = text.split_once(':')?;
    let mut bytes = Vec::new();
    for start in (0..words.len()).step_by(8) {
        bytes.extend(u32::from_str_radix(words.get(start..start + 8)?, 16).ok()?.to_ne_bytes());
    }
    let ip = match bytes.len() {
        4 => std::net::IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?),
        // What came in over IPv4 counts as that.
        16 => std::net::IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?).to_canonical(),
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

#[cfg(all(test, target_os = "linux", target_endian = "little"))]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn a_process_may_have_any_name() {
        let stat = "42 (a) b (c)) S 7 41 41 0 -1";
        assert_eq!(process(42, stat), Some(Process { id: 42, parent: 7, group: 41 }));
        assert_eq!(process(42, "42 (a) Z 7 41 41"), None);
        assert_eq!(process(42, "42 (a"), None);
    }

    #[test]
    fn sockets_are_read_from_either_table() {
        let line = "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1";
        let (local, remote) = ("127.0.0.1:8080".parse().unwrap(), "0.0.0.0:0".parse().unwrap());
        let expected = Socket { local, remote, listens: true, inode: 4_711 };
        assert_eq!(socket(line), Some(expected));
        let six = address("0000000000000000FFFF00000100007F:1F90").unwrap();
        assert_eq!(six, expected.local);
        assert_eq!(address("00000000000000000000000001000000:0050"), "[::1]:80".parse().ok());
        for broken in ["", "0100007F", "0100007:1F90", "01000é7F:1F90", "0100007F:1F9000"] {
            assert_eq!(address(broken), None, "{broken}");
        }
    }

    #[test]
    fn the_sockets_of_this_process_are_its_own() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let local = listener.local_addr().unwrap();
        assert!(sockets().iter().any(|socket| socket.local == local && socket.listens));
    }
}
