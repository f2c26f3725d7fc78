//! Which hosts, so that a host that is seen in many rows or hours counts once. Names become numbers, and a set of them is a bit for
//! each.

use std::collections::HashMap;

/// Names of hosts, numbered in the order in which they came.
#[derive(Clone, Debug, Default)]
pub struct Names {
    numbers: HashMap<String, usize>,
    names: Vec<String>,
}

impl Names {
    /// The number of a name.
    pub fn number(&mut self, name: &str) -> usize {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        let number = self.names.len();
        self.numbers.insert(name.to_owned(), number);
        self.names.push(name.to_owned());
        number
    }

    /// All names in their order, and for each number the place in that order.
    pub fn sorted(&self) -> (Vec<&str>, Vec<usize>) {
        let mut order: Vec<usize> = (0..self.names.len()).collect();
        order.sort_unstable_by_key(|number| &self.names[*number]);
        let mut places = vec![0; order.len()];
        order.iter().enumerate().for_each(|(place, number)| places[*number] = place);
        (order.into_iter().map(|number| self.names[number].as_str()).collect(), places)
    }
}

/// A set of hosts by their numbers: host i is in it where bit i mod 8 of byte i / 8 is set. Bytes of zero at the end are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct HostSet(Vec<u8>);

impl HostSet {
    /// The set that these bytes are.
    pub fn of(bytes: &[u8]) -> HostSet {
        HostSet(bytes.to_vec())
    }

    /// Adds a host.
    pub fn add(&mut self, number: usize) {
        if self.0.len() <= number / 8 {
            self.0.resize(number / 8 + 1, 0);
        }
        self.0[number / 8] |= 1 << (number % 8);
    }

    /// Adds all of another set.
    pub fn add_all(&mut self, other: &HostSet) {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        self.0.iter_mut().zip(&other.0).for_each(|(to, from)| *to |= from);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.iter().map(|byte| byte.count_ones() as usize).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The same hosts by other numbers. Those without one are left out.
    pub fn renumbered(&self, numbers: &[usize]) -> HostSet {
        let mut renumbered = HostSet::default();
        for (at, byte) in self.0.iter().enumerate() {
            let bits = (0..8).filter(|bit| byte & (1 << bit) != 0).map(|bit| at * 8 + bit);
            bits.filter_map(|number| numbers.get(number)).for_each(|number| renumbered.add(*number));
        }
        renumbered
    }

    /// As it is in a file.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_counts_once_by_whatever_number() {
        let mut names = Names::default();
        let numbers = ["c", "a", "b", "a"].map(|name| names.number(name));
        assert_eq!(numbers, [0, 1, 2, 1]);
        let mut set = HostSet::default();
        [0, 1, 1, 9].into_iter().for_each(|number| set.add(number));
        assert_eq!((set.len(), set.bytes()), (3, &[3, 2][..]));
        let (sorted, places) = names.sorted();
        assert_eq!((sorted, places.as_slice()), (vec!["a", "b", "c"], &[2, 0, 1][..]));
        let renumbered = set.renumbered(&places);
        assert_eq!(renumbered, HostSet::of(&[0b101]), "9 has no name, and is left out");
        set.add_all(&HostSet::of(&[4, 0, 1]));
        assert_eq!(set.len(), 5);
        assert!(HostSet::default().is_empty() && HostSet::of(&[0]).is_empty());
    }
}
