//! What a program is, for people.

use crate::Plan;
use galatea_kernels::{Cost, cost};
use galatea_tensor::Region;
use std::fmt;

/// A plan's totals and, on request, its listing.
#[derive(Clone, Copy, Debug)]
pub struct Summary<'a> {
    plan: &'a Plan,
}

impl Plan {
    /// The plan for people: `Display` prints every instruction, then the totals.
    pub fn summary(&self) -> Summary<'_> {
        Summary { plan: self }
    }

    /// Arithmetic and traffic of one run.
    pub fn cost(&self) -> Cost {
        let mut total = Cost::default();
        self.program.insts().iter().for_each(|inst| total += cost(inst));
        total
    }

    /// Bytes of all regions.
    pub fn bytes(&self) -> usize {
        self.program.region_bytes().iter().sum()
    }
}

fn mib(bytes: usize) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

impl Summary<'_> {
    /// The totals, a line each.
    ///
    /// # Errors
    /// If the writer fails.
    pub fn totals(&self, f: &mut impl fmt::Write) -> fmt::Result {
        let Plan { program, params, unplanned_bytes, .. } = self.plan;
        let bytes = |region: Region| program.region_bytes()[region.index()];
        let total = self.plan.cost();
        let frozen = params.iter().filter(|p| !p.trained).count();
        let state = if bytes(Region::Grad) == 0 { String::new() } else { format!(" ({frozen} without a gradient)") };
        writeln!(f, "parameters    {} in {} tensors{state}", self.plan.param_count(), params.len())?;
        writeln!(f, "instructions  {}", program.insts().len())?;
        writeln!(f, "flops a run   {:.3} G", total.flops as f64 / 1e9)?;
        writeln!(f, "bytes a run   {:.1} MiB (every operand once)", mib(total.bytes as usize))?;
        writeln!(f, "memory        {:.1} MiB", mib(self.plan.bytes()))?;
        for (name, region) in [
            ("parameters", Region::Param),
            ("gradients", Region::Grad),
            ("moments", Region::Moment),
            ("activations", Region::Work),
            ("inputs", Region::Step),
        ] {
            writeln!(f, "  {name:<11} {:.1} MiB", mib(bytes(region)))?;
        }
        writeln!(f, "  activations would take {:.1} MiB without reuse", mib(*unplanned_bytes))
    }
}

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:>5}  {:<22} {:>11} {:>12}  writes <- reads", "index", "op", "Mflop", "KiB")?;
        for (index, inst) in self.plan.program.insts().iter().enumerate() {
            let Cost { flops, bytes } = cost(inst);
            let slots = |slots: &[galatea_tensor::Slot]| {
                let one = |s: &galatea_tensor::Slot| format!("{:?}+{}{}", s.region, s.offset, s.shape);
                slots.iter().map(one).collect::<Vec<_>>().join(" ")
            };
            let (name, mega, kibi) = (inst.op.name(), flops as f64 / 1e6, bytes as f64 / 1024.0);
            let (writes, reads) = (slots(&inst.writes), slots(&inst.reads));
            writeln!(f, "{index:>5}  {name:<22} {mega:>11.3} {kibi:>12.1}  {writes} <- {reads}")?;
        }
        self.totals(f)
    }
}
