//! What the operating system says about this process, from `/proc`.

use skep_node::{CpuTime, Process};

/// Reads the figures; the thread is the one that asks. `None` where the system does not tell.
///
/// Cost: two small files, about 50 microseconds.
pub(crate) fn measure() -> Option<Process> {
    let process = Stat::read("/proc/self/stat")?;
    let thread = Stat::read("/proc/thread-self/stat")?;
    let system = rustix::system::sysinfo();
    Some(Process {
        memory_resident: process.resident_pages * rustix::param::page_size() as u64,
        memory_total: system.totalram * u64::from(system.mem_unit),
        cpu: process.cpu(),
        cpu_main_thread: thread.cpu(),
    })
}

/// A line of `proc(5)`'s `stat`.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    user_ticks: u64,
    system_ticks: u64,
    resident_pages: u64,
}

impl Stat {
    fn read(path: &str) -> Option<Stat> {
        Stat::parse(&std::fs::read_to_string(path).ok()?)
    }

    /// The second field, a name in parentheses, may hold blanks and parentheses itself, so the others are counted behind
    /// its end.
    fn parse(line: &str) -> Option<Stat> {
        let (_, behind) = line.rsplit_once(')')?;
        let fields: Vec<&str> = behind.split_ascii_whitespace().collect();
        // The first of them is the third of the line.
        let field = |number: usize| fields.get(number - 3)?.parse().ok();
        Some(Stat { user_ticks: field(14)?, system_ticks: field(15)?, resident_pages: field(24)? })
    }

    fn cpu(&self) -> CpuTime {
        let ms = |ticks: u64| ticks * 1_000 / rustix::param::clock_ticks_per_second();
        CpuTime { user_ms: ms(self.user_ticks), system_ms: ms(self.system_ticks) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_counted_behind_the_name() {
        let line = "4711 (a) 1 (b) S 1 4711 4711 0 -1 4194304 2516 0 0 0 1234 567 8 9 20 0 6 0 1811 300000000 4321 \
                    18446744073709551615 1 1 0 0 0 0 0 4096 0 0 0 0 17 1 0 0 0 0 0\n";
        let expected = Stat { user_ticks: 1234, system_ticks: 567, resident_pages: 4321 };
        assert_eq!(Stat::parse(line), Some(expected));
        for broken in ["", "4711 (skep)", "4711 (skep) S 1 2 3", "4711 (skep) S 1 2 3 4 5 6 7 8 9 10 x 11"] {
            assert_eq!(Stat::parse(broken), None, "{broken}");
        }
    }

    #[test]
    fn a_process_has_memory_less_than_the_machine() {
        let process = measure().expect("/proc is there");
        assert!(process.memory_resident > 0 && process.memory_resident < process.memory_total, "{process:?}");
    }
}
