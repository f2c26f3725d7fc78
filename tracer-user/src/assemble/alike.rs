//! Processes of one binary, and sites with one name, as one. A person wants to know what is wrong with a program, and
//! not to read it fifty times because fifty processes run it.

use std::collections::{HashMap, HashSet};

use super::lifetime;
use crate::report::{Finding, Frame, Level, Oldest, Process, Site, Sort};
use crate::stats::Durations;

/// The processes that execute the same binary and are seen in the same way.
#[derive(Clone, Debug)]
pub struct Program {
    /// What they have in common, and their totals. It has no sites.
    pub process: Process,
    /// Their ids.
    pub pids: Vec<u32>,
    /// Their sites.
    pub sites: Vec<Alike>,
    /// The sites that one mistake has left, as indices into `sites`: first that whose wait tells what to do. Each site with
    /// the verdict `watch` or worse is in one of them, unless it is ignored or known.
    pub findings: Vec<Vec<usize>>,
}

/// What rows have in common that are put together.
type Name = (Frame, Frame, Level, Option<&'static str>);

fn name(site: &Site) -> Name {
    (site.site.clone(), site.entry.clone(), site.verdict.level, site.silenced())
}

/// The rows of a report that have the same statement, function and verdict: those of several processes, or of several
/// instances of a generic function.
#[derive(Clone, Debug)]
pub struct Alike {
    /// Their sums. All that cannot be added is that of the row with most living goroutines.
    pub site: Site,
    /// Number of living goroutines of that row.
    pub live_of_most: u64,
    /// The process of that row.
    pub pid_of_most: u32,
    /// The processes that have such rows, each once.
    pub pids: Vec<u32>,
    /// Number of rows.
    pub rows: usize,
}

/// Puts together what is alike in the processes of a report. `sort` is the order of the sites that were put together.
pub fn programs(processes: &[Process], sort: Sort) -> Vec<Program> {
    let mut programs: Vec<Program> = Vec::new();
    let mut known = HashMap::new();
    for process in processes {
        let binary = (&process.exe, &process.build_id, &process.library);
        let key = (binary, process.mode, process.stopped, process.detail.as_ref());
        let is_alone = process.exe.is_none() && process.build_id.is_none();
        let at = *known.entry((key, is_alone.then_some(process.pid))).or_insert(programs.len());
        match programs.get_mut(at) {
            Some(program) => program.add(process),
            None => programs.push(Program::new(process)),
        }
    }
    programs.iter_mut().for_each(|program| program.put_together(sort));
    programs
}

impl Program {
    fn new(process: &Process) -> Program {
        let sites = process.sites.iter().map(|site| Alike::new(site, process.pid)).collect();
        let findings = process.findings.iter().map(|finding| finding.sites.clone()).collect();
        let process = Process { sites: Vec::new(), findings: Vec::new(), ..process.clone() };
        Program { pids: vec![process.pid], process, sites, findings }
    }

    fn add(&mut self, process: &Process) {
        let (own, other) = (&mut self.process, process);
        // What only some of them have is not the program's.
        if own.command != other.command {
            own.command = None;
        }
        if own.container != other.container {
            own.container = None;
        }
        if own.started_by != other.started_by {
            own.started_by = None;
        }
        let (sum, more) = (&mut own.goroutines, &other.goroutines);
        sum.live = sum.live.saturating_add(more.live);
        sum.system = sum.system.saturating_add(more.system);
        sum.created = sum.created.saturating_add(more.created);
        sum.exited = sum.exited.saturating_add(more.exited);
        sum.states = sum.states.zip(more.states).map(|(sum, more)| sum.plus(more));
        self.pids.push(other.pid);
        let before = self.sites.len();
        let moved = |finding: &Finding| finding.sites.iter().map(|at| before + at).collect();
        self.findings.extend(other.findings.iter().map(moved));
        self.sites.extend(other.sites.iter().map(|site| Alike::new(site, other.pid)));
    }

    fn put_together(&mut self, sort: Sort) {
        let names: Vec<Name> = self.sites.iter().map(|row| name(&row.site)).collect();
        let mut alike: Vec<Vec<Alike>> = Vec::new();
        let mut known = HashMap::new();
        for row in std::mem::take(&mut self.sites) {
            let at = *known.entry(name(&row.site)).or_insert(alike.len());
            match alike.get_mut(at) {
                Some(rows) => rows.push(row),
                None => alike.push(vec![row]),
            }
        }
        self.sites = alike.into_iter().filter_map(Alike::of).collect();
        if self.sites.len() < names.len() {
            self.sites.sort_by(|a, b| sort.order(&a.site, &b.site));
        }
        let now: HashMap<Name, usize> =
            self.sites.iter().enumerate().map(|(at, alike)| (name(&alike.site), at)).collect();
        let found = std::mem::take(&mut self.findings).into_iter();
        self.findings = merged(
            found.map(|rows| rows.iter().filter_map(|&row| now.get(names.get(row)?).copied()).collect()),
        );
        // Reports of older golife versions have none.
        let known: HashSet<usize> = self.findings.iter().flatten().copied().collect();
        let unknown = (0..self.sites.len()).filter(|at| !known.contains(at));
        let alone = unknown.filter_map(|at| Some(Finding::alone(at, &self.sites[at].site)?.sites));
        let alone: Vec<_> = alone.collect();
        self.findings.extend(alone);
    }
}

/// Puts findings together that have a site in common.
fn merged(findings: impl Iterator<Item = Vec<usize>>) -> Vec<Vec<usize>> {
    let mut merged: Vec<Vec<usize>> = Vec::new();
    let mut known: HashMap<usize, usize> = HashMap::new();
    for finding in findings {
        let at = finding.iter().find_map(|site| known.get(site).copied()).unwrap_or(merged.len());
        if at == merged.len() {
            merged.push(Vec::new());
        }
        for site in finding {
            if known.insert(site, at).is_none() {
                merged[at].push(site);
            }
        }
    }
    merged
}

impl Alike {
    fn new(site: &Site, pid: u32) -> Alike {
        Alike { live_of_most: site.live, pid_of_most: pid, pids: vec![pid], rows: 1, site: site.clone() }
    }

    /// Adds up rows; `None` of none.
    fn of(mut rows: Vec<Alike>) -> Option<Alike> {
        let most = (0..rows.len()).rev().max_by_key(|&at| rows[at].live_of_most)?;
        let mut sum = rows.swap_remove(most);
        if rows.is_empty() {
            return Some(sum);
        }
        let mut lifetimes = lifetimes(&sum.site);
        for row in rows {
            let (own, other) = (&mut sum.site, row.site);
            lifetimes.merge(&self::lifetimes(&other));
            own.created = own.created.saturating_add(other.created);
            own.exited = own.exited.saturating_add(other.exited);
            own.live = own.live.saturating_add(other.live);
            own.at_attach = own.at_attach.saturating_add(other.at_attach);
            own.reconciled = own.reconciled.saturating_add(other.reconciled);
            own.untracked = own.untracked.saturating_add(other.untracked);
            own.created_per_s = own.created_per_s.zip(other.created_per_s).map(|(own, other)| own + other);
            own.stack_bytes =
                own.stack_bytes.zip(other.stack_bytes).map(|(own, other)| own.saturating_add(other));
            let oldest = [own.oldest, other.oldest].into_iter().flatten().max_by_key(|oldest| oldest.age_ns);
            let at_least = [own.oldest, other.oldest].into_iter().flatten().any(|oldest| oldest.at_least);
            own.oldest = oldest.map(|oldest| Oldest { at_least, ..oldest });
            if !sum.pids.contains(&row.pid_of_most) {
                sum.pids.push(row.pid_of_most);
            }
            sum.rows += 1;
        }
        sum.site.lifetime = lifetime(&lifetimes);
        Some(sum)
    }
}

/// The lifetimes of a site's goroutines. Only those of saved reports might be damaged, and here are none of these.
fn lifetimes(site: &Site) -> Durations {
    site.lifetime.as_ref().and_then(|lifetime| lifetime.durations().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Frame, Level, Verdict};

    fn process(pid: u32, exe: &str, sites: &[(&str, u64, Level)]) -> Process {
        let site = |&(name, live, level): &(&str, u64, Level)| Site {
            site: Frame { function: name.into(), file: None, line: None },
            live,
            created: live,
            oldest: Some(Oldest { age_ns: live, at_least: pid == 2 }),
            verdict: Verdict { level, ..Verdict::default() },
            ..Site::default()
        };
        let command = Some(format!("{exe} {pid}"));
        Process {
            pid,
            exe: Some(exe.into()),
            command,
            sites: sites.iter().map(site).collect(),
            ..Process::default()
        }
    }

    #[test]
    fn findings_of_processes_that_are_alike_are_alike() {
        let (leak, follows) = (("main.leak", 9, Level::Suspect), ("x.io/y.run", 9, Level::Watch));
        let finding = |sites: &[usize]| Finding { sites: sites.to_vec(), ..Finding::default() };
        let mut first = process(1, "/server", &[leak, ("main.work", 3, Level::Healthy), follows]);
        first.findings = vec![finding(&[2, 0])];
        let mut second = process(2, "/server", &[follows, leak]);
        second.findings = vec![finding(&[0, 1])];
        let alone = process(3, "/other", &[leak, ("main.work", 3, Level::Healthy)]);
        let mut silenced = process(4, "/silenced", &[leak]);
        silenced.sites[0].ignored = true;
        let programs = programs(&[first, second, alone, silenced], Sort::Verdict);
        let named = |program: &Program| -> Vec<Vec<String>> {
            let name = |&at: &usize| program.sites[at].site.site.function.clone();
            program.findings.iter().map(|finding| finding.iter().map(name).collect()).collect()
        };
        assert_eq!(named(&programs[0]), [["x.io/y.run", "main.leak"]]);
        assert_eq!(named(&programs[1]), [["main.leak"]]);
        assert_eq!((named(&programs[2]).len(), programs[2].sites.len()), (0, 1), "ignored is no finding");
    }

    #[test]
    fn processes_of_one_binary_are_one_and_others_are_not() {
        let leak = ("main.leak", 40, Level::Suspect);
        let processes = [
            process(1, "/server", &[("main.work", 3, Level::Healthy), leak]),
            process(2, "/server", &[leak, ("main.leak", 50, Level::Suspect)]),
            process(3, "/server", &[("main.leak", 1, Level::Healthy)]),
            process(4, "/worker", &[leak]),
        ];
        let programs = programs(&processes, Sort::Verdict);
        let pids: Vec<_> = programs.iter().map(|program| program.pids.clone()).collect();
        assert_eq!(pids, [vec![1, 2, 3], vec![4]]);
        let server = &programs[0];
        assert_eq!(server.process.command, None, "each has another one");
        let rows: Vec<_> =
            server.sites.iter().map(|alike| (alike.site.live, alike.rows, alike.pids.len())).collect();
        assert_eq!(rows, [(130, 3, 2), (3, 1, 1), (1, 1, 1)]);
        let leak = &server.sites[0];
        assert_eq!((leak.pid_of_most, leak.live_of_most), (2, 50));
        assert_eq!(leak.site.oldest, Some(Oldest { age_ns: 50, at_least: true }));
    }
}
