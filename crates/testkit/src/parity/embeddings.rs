//! A recorded network with a fixture's weights, and its gradients beside the fixture's.

use super::{Case, Fault, Report};
use galatea_autograd::{Param, Part, Session, Var};
use galatea_kernels::Cpu;

/// The tensors of a fixture, without their prefix, whose rows one after another are a parameter's.
pub(super) type Names = fn(&str) -> Vec<String>;

/// A parameter under its own name.
pub(super) fn same(path: &str) -> Vec<String> {
    vec![path.to_owned()]
}

/// The numbers of a parameter; a table of positions may go on beyond what a program of this length reads.
fn numbers(case: &Case, prefix: &str, param: &Param, names: Names) -> Result<Vec<f64>, Fault> {
    let mut values = Vec::new();
    for name in names(&param.path) {
        values.extend(case.vec(&format!("{prefix}{name}"))?);
    }
    let len = param.shape.len();
    if values.len() < len {
        let (name, found) = (format!("{prefix}{}", param.path), vec![values.len()]);
        return Err(Fault::Axes { name, expected: len, found });
    }
    values.truncate(len);
    Ok(values)
}

/// Sets every parameter of a session to the fixture's `param.*`.
pub(super) fn load(case: &Case, session: &mut Session<Cpu>, names: Names) -> Result<(), Fault> {
    for index in 0..session.plan().params().len() {
        let values = numbers(case, "param.", &session.plan().params()[index], names)?;
        let values: Vec<f32> = values.into_iter().map(|x| x as f32).collect();
        session.set_param(index, Part::Value, &values).map_err(Fault::refused)?;
    }
    Ok(())
}

/// Compares the gradients of all parameters for which the fixture has `grad.*`.
pub(super) fn gradients(
    case: &Case,
    report: &mut Report,
    session: &Session<Cpu>,
    names: Names,
    tolerance: f64,
) -> Result<(), Fault> {
    for (index, param) in session.plan().params().iter().enumerate() {
        if !names(&param.path).iter().all(|name| case.has(&format!("grad.{name}"))) {
            continue;
        }
        let truth = numbers(case, "grad.", param, names)?;
        let found = session.param(index, Part::Grad).map_err(Fault::refused)?;
        let found = found.unwrap_or_else(|| vec![0.0; truth.len()]);
        report.relative_f32(format!("gradient of {}", param.path), &found, &truth, tolerance);
    }
    Ok(())
}

/// Fills inputs.
pub(super) fn write(session: &mut Session<Cpu>, inputs: &[(Var, Vec<f32>)]) -> Result<(), Fault> {
    for (var, values) in inputs {
        session.write(*var, values).map_err(Fault::refused)?;
    }
    Ok(())
}

/// Fills inputs and runs.
pub(super) fn run(session: &mut Session<Cpu>, inputs: &[(Var, Vec<f32>)]) -> Result<(), Fault> {
    write(session, inputs)?;
    session.run().map_err(Fault::refused)
}

/// An output.
pub(super) fn read(session: &Session<Cpu>, var: Var) -> Result<Vec<f32>, Fault> {
    session.read(var).map_err(Fault::refused)
}
