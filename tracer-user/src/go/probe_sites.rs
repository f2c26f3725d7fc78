//! All probe sites of a binary: plans for every place where the function table says that code of the probed functions is,
//! inlined copies included.

use std::ops::Range;

use super::binary::Binary;
use crate::go::plan::{self, Body, Kernel, PlanError, ProbeSite, Purpose, TestPoint};

/// How probe sites are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// The cheapest instruction that sees each goroutine exactly once.
    Cheapest,
    /// The returns of `newproc1` and the entry of `goexit1`, as one would do it without looking at the code. For
    /// comparison in benchmarks.
    SingleStepped,
}

/// Plans the probes for creations, ends and ends of coroutines. A binary without `runtime.coroexit`, which is the case
/// before Go 1.23 and where no coroutine is used, gets none for the last.
///
/// # Errors
/// One of the functions has no place for a probe.
pub fn of(binary: &Binary, kernel: Kernel, placement: Placement) -> Result<Vec<ProbeSite>, PlanError> {
    let calls = |pc: u64| {
        binary.function_at(pc).filter(|function| function.entry == pc).map(|function| function.name)
    };
    let (newproc1, goexit1, coroexit) = (
        places(binary, "runtime.newproc1")?,
        places(binary, "runtime.goexit1")?,
        places(binary, "runtime.coroexit")?,
    );
    let [newproc1, goexit1, coroexit] = [&newproc1, &goexit1, &coroexit]
        .map(|places| places.iter().map(|place| place.body(binary)).collect::<Vec<_>>());
    let mut sites = match placement {
        Placement::Cheapest => plan::creation(&newproc1, binary.layout(), &calls, kernel)?,
        Placement::SingleStepped => plan::single_stepped_creation(&newproc1, &calls, kernel)?,
    };
    sites.extend(match placement {
        Placement::Cheapest => plan::exit(&goexit1, Purpose::Exit, &calls, kernel)?,
        Placement::SingleStepped => plan::single_stepped_exit(&goexit1, Purpose::Exit, &calls, kernel)?,
    });
    if !coroexit.is_empty() {
        sites.extend(plan::exit(&coroexit, Purpose::CoroutineExit, &calls, kernel)?);
    }
    if placement == Placement::Cheapest && binary.is_test() {
        sites.extend(tests(binary, &calls, kernel));
    }
    Ok(sites)
}

/// Plans the probes of a test binary. What cannot be planned is left out: then it is not known to which test goroutines go back.
fn tests(binary: &Binary, calls: &plan::CallTargets, kernel: Kernel) -> Vec<ProbeSite> {
    let planned = TestPoint::FUNCTIONS.iter().map(|&(name, point)| {
        let places: Vec<Place> = own_places(binary, name).collect();
        let bodies: Vec<Body> = places.iter().map(|place| place.body(binary)).collect();
        plan::beginning(&bodies, Purpose::Test(point), calls, kernel).unwrap_or_default()
    });
    planned.flatten().collect()
}

/// A place where code of a probed function is; with its bytes it becomes a [`Body`].
struct Place {
    function: String,
    code: Range<u64>,
    inlined: Vec<Range<u64>>,
}

impl Place {
    fn body<'a>(&'a self, binary: &'a Binary) -> Body<'a> {
        Body {
            architecture: binary.image().architecture(),
            function: &self.function,
            entry: self.code.start,
            code: binary.code(self.code.clone()),
            inlined: &self.inlined,
        }
    }
}

fn places(binary: &Binary, name: &str) -> Result<Vec<Place>, PlanError> {
    let copies = binary.inlined_into(name)?.into_iter().map(|copy| Place {
        code: copy.into.entry..copy.into.end,
        function: copy.into.name,
        inlined: copy.ranges,
    });
    Ok(own_places(binary, name).chain(copies).collect())
}

fn own_places(binary: &Binary, name: &str) -> impl Iterator<Item = Place> {
    binary.functions_named(name).into_iter().map(|function| Place {
        code: function.entry..function.end,
        function: function.name,
        inlined: Vec::new(),
    })
}
