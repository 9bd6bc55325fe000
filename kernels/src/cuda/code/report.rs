//! What the assembler says of the kernels it made: registers, spills, shared memory.

/// One kernel's resources on one architecture.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The kernel.
    pub entry: String,
    /// Registers of a thread.
    pub registers: u32,
    /// Bytes of a thread's stack: spilled registers, and arrays whose index is not known.
    pub stack: u32,
    /// Bytes that a thread writes to memory because registers ran out.
    pub spill_stores: u32,
    /// Bytes that it reads back.
    pub spill_loads: u32,
    /// Bytes of static shared memory of a block.
    pub shared: u32,
    /// Barriers of a block.
    pub barriers: u32,
}

/// What a compiler's log says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Log {
    /// The kernels, by name.
    pub reports: Vec<Report>,
    /// Warnings of the compiler, and the assembler's remarks on performance, such as products that it had to serialise.
    pub warnings: Vec<String>,
}

impl Log {
    /// Reads the log of a compilation with `--ptxas-options=-v`. Lines of no interest are passed over.
    pub fn parse(text: &str) -> Self {
        let mut log = Self::default();
        for line in text.lines() {
            if let Some((_, rest)) = line.split_once("Compiling entry function '") {
                let entry = rest.split('\'').next().unwrap_or_default().to_owned();
                log.reports.push(Report { entry, ..Report::default() });
            } else if line.to_lowercase().contains("warning") || line.contains("Potential Performance Loss") {
                log.warnings.push(line.trim().to_owned());
            } else if let Some(report) = log.reports.last_mut() {
                report.read(line);
            }
        }
        log.reports.sort_by(|a, b| a.entry.cmp(&b.entry));
        log
    }
}

impl Report {
    /// Takes in `0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads` or
    /// `Used 24 registers, used 1 barriers, 128 bytes smem`.
    fn read(&mut self, line: &str) {
        for part in line.rsplit(" : ").next().unwrap_or(line).split(',') {
            let words: Vec<&str> = part.split_whitespace().skip_while(|word| word.parse::<u32>().is_err()).collect();
            let Some(number) = words.first().and_then(|word| word.parse().ok()) else { continue };
            match &words[1..] {
                ["registers", ..] => self.registers = number,
                ["barriers", ..] => self.barriers = number,
                ["bytes", "stack", "frame"] => self.stack = number,
                ["bytes", "spill", "stores"] => self.spill_stores = number,
                ["bytes", "spill", "loads"] => self.spill_loads = number,
                ["bytes", "smem"] => self.shared = number,
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As NVRTC 13.0 prints it.
    const LOG: &str = "\
ptxas info    : 16 bytes gmem
ptxas info    : Compiling entry function 'sum' for 'sm_80'
ptxas info    : Function properties for sum
ptxas         .     0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 24 registers, used 1 barriers, 128 bytes smem, 372 bytes cmem[0]
ptxas info    : Compile time = 15.823 ms
ptxas info    : Compiling entry function 'head_sample' for 'sm_90a'
ptxas info    : Function properties for head_sample
ptxas         .     48 bytes stack frame, 44 bytes spill stores, 80 bytes spill loads
ptxas info    : Used 168 registers, used 2 barriers, 48 bytes cumulative stack size
ptxas info    : Compile time = 974.989 ms
";

    #[test]
    fn every_kernel_of_a_log_is_read() {
        let log = Log::parse(LOG);
        let [head, sum] = &log.reports[..] else { panic!("{log:?}") };
        assert_eq!(
            (head.entry.as_str(), head.registers, head.stack, head.spill_stores, head.spill_loads, head.barriers),
            ("head_sample", 168, 48, 44, 80, 2)
        );
        let expected = Report { entry: "sum".into(), registers: 24, shared: 128, barriers: 1, ..Report::default() };
        assert_eq!(*sum, expected);
        assert_eq!(log.warnings, Vec::<String>::new());
    }

    #[test]
    fn warnings_are_kept_whoever_gives_them() {
        let lines = [
            "x.cu(3): warning #177-D: variable \"y\" was declared but never referenced",
            "ptxas info    : (C7510) Potential Performance Loss: wgmma.mma_async instructions are serialized",
            "ptxas warning : Value of threads per SM is out of range",
        ];
        assert_eq!(Log::parse(&(LOG.to_owned() + &lines.join("\n"))).warnings, lines);
    }

    #[test]
    fn a_log_of_nothing_is_nothing() {
        assert_eq!(Log::parse(""), Log::default());
        assert_eq!(Log::parse("error: 3 registers, 7 bytes smem").reports, []);
    }
}
