//! Bound of open files, and the shares of connections and streams.

/// Files of the process: the listening socket, the log, the audit trail, files of libraries.
const OF_THE_PROCESS: usize = 64;
/// Files of each worker: its event queue, its connections to the nodes of Redis, and connections of
/// clients that are not counted yet or not closed yet.
const OF_A_WORKER: usize = 32;
/// Connections that streams leave for other requests, and for clients that only keep one open.
const LEAST_OTHER_CONNECTIONS: usize = 896;
/// Bound of the connections beside the configured streams. An idle connection needs as much memory
/// as a stream, and containers have far more files than memory for connections.
const MOST_OTHER_CONNECTIONS: usize = 4096;

/// Bounds of open connections and streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Room {
    /// Connections of clients, those of streams included.
    pub(super) connections: usize,
    /// Streams.
    pub(super) streams: usize,
}

impl Room {
    /// Bounds for `workers` threads within `open_files`: the configured streams, or fewer if files
    /// are few. Connections get at least half of the files, because the needs of many workers may
    /// exceed a low limit.
    pub(super) fn within(open_files: usize, workers: usize, configured: usize) -> Self {
        let taken = OF_THE_PROCESS + OF_A_WORKER * workers;
        let connections = open_files
            .saturating_sub(taken)
            .max(open_files / 2)
            .min(configured.saturating_add(MOST_OTHER_CONNECTIONS))
            .max(1);
        let streams = connections.saturating_sub(LEAST_OTHER_CONNECTIONS).max(1);
        if streams < configured {
            tracing::warn!(
                configured,
                open_files,
                allowed = streams,
                "fewer streams than configured are allowed, because the limit on open files is too low; raise it (ulimit -n, LimitNOFILE=)"
            );
        }
        Self { connections, streams: streams.min(configured) }
    }
}

/// Raises the limit of open files as far as the system allows. Returns the limit.
pub(super) fn raise_limit() -> usize {
    let raised = rlimit::increase_nofile_limit(u64::MAX);
    let limit = raised.or_else(|_| rlimit::Resource::NOFILE.get_soft()).unwrap_or(1024);
    usize::try_from(limit).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_and_streams_leave_files_for_everything_else() {
        for (open_files, workers) in [(1400, 2), (32_768, 16), (65_536, 64)] {
            let room = Room::within(open_files, workers, 1_000_000);
            assert_eq!(open_files - room.connections, OF_THE_PROCESS + workers * OF_A_WORKER);
            assert_eq!(room.connections - room.streams, LEAST_OTHER_CONNECTIONS);
        }
        for open_files in [0, 100, 1000] {
            let Room { connections, streams } = Room::within(open_files, 2, 16_000);
            assert!(connections <= open_files.max(1) && streams == 1, "{connections} {streams}");
        }
    }

    #[test]
    fn connections_are_bounded_however_many_files_there_are() {
        for open_files in [65_536, 1_048_576, usize::MAX] {
            let room = Room::within(open_files, 2, 16_000);
            assert_eq!(room, Room { connections: 16_000 + MOST_OTHER_CONNECTIONS, streams: 16_000 });
        }
        let everything = Room::within(usize::MAX, 512, usize::MAX);
        assert!(everything.connections < usize::MAX && everything.streams < everything.connections);
    }

    #[test]
    fn many_workers_leave_half_of_few_files_to_connections() {
        for open_files in [300, 1024, 4096] {
            assert_eq!(Room::within(open_files, 512, 16_000).connections, open_files / 2);
        }
    }
}
