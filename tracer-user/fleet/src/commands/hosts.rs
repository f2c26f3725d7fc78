//! How many hosts have a group, from roll-ups and sweeps: a host that is in both counts once.

use std::collections::{BTreeMap, HashMap};

use datafusion::arrow::array::{Array, AsArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::DataType;

use super::groups::{Columns, Group};
use crate::arguments::Grouping;
use crate::rollup::hosts::{HostSet, Names};
use crate::session::{REST, ROLLUPS, Session};

/// The number of hosts of each group.
///
/// # Errors
/// The store cannot be read.
pub async fn count(session: &Session, grouping: &Grouping) -> anyhow::Result<BTreeMap<Group, u64>> {
    let columns = grouping.columns();
    let mut counted: BTreeMap<Group, u64> = BTreeMap::new();
    if session.choice().rollups.is_empty() {
        let sql = format!(
            "SELECT {columns}, COUNT(*) AS hosts FROM (SELECT DISTINCT {columns}, host FROM {}) GROUP BY {columns}",
            grouping.of(REST)
        );
        for batch in &session.query(&sql).await?.1 {
            let columns = Columns::of(batch);
            let hosts = columns.numbers("hosts")?;
            counted
                .extend(columns.groups()?.into_iter().zip(hosts.values().iter().map(|hosts| *hosts as u64)));
        }
        return Ok(counted);
    }
    let mut names = Names::default();
    let mut of_hours: HashMap<i64, Vec<usize>> = HashMap::new();
    for (hour, hosts) in session.rolled_hosts().await? {
        of_hours.insert(hour, hosts.iter().map(|host| names.number(host)).collect());
    }
    let mut sets: BTreeMap<Group, HostSet> = BTreeMap::new();
    // Most sites of a service are on the same hosts.
    let mut known: HashMap<(i64, HostSet), HostSet> = HashMap::new();
    let rolled = format!(
        "SELECT DISTINCT {columns}, CAST(start AS BIGINT) AS start, host_set FROM {}",
        grouping.of(ROLLUPS)
    );
    for batch in &session.query(&rolled).await?.1 {
        let columns = Columns::of(batch);
        let hours = columns.integers("start")?;
        let bits = cast(columns.column("host_set")?, &DataType::Binary)?;
        let bits = bits.as_binary::<i32>();
        for (row, group) in columns.groups()?.into_iter().enumerate() {
            let (hour, set) = (hours.value(row), HostSet::of(bits.value(row)));
            let numbers = of_hours.get(&hour).map_or(&[][..], Vec::as_slice);
            let set = known.entry((hour, set)).or_insert_with_key(|(_, set)| set.renumbered(numbers));
            sets.entry(group).or_default().add_all(set);
        }
    }
    let rest = format!("SELECT DISTINCT {columns}, host FROM {}", grouping.of(REST));
    for batch in &session.query(&rest).await?.1 {
        let columns = Columns::of(batch);
        let hosts = columns.texts("host")?;
        for (row, group) in columns.groups()?.into_iter().enumerate() {
            if hosts.is_valid(row) {
                sets.entry(group).or_default().add(names.number(hosts.value(row)));
            }
        }
    }
    Ok(sets.into_iter().map(|(group, set)| (group, set.len() as u64)).collect())
}
