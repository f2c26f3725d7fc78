//! Where goroutines come from: the creation sites of their creators and of those creators' creators, also when these
//! have ended.
//!
//! Each process instance has an interned tree. A goroutine holds a number of four bytes that stands for its whole
//! ancestry, so the ancestors themselves need not be kept. Recursion does not make the tree grow: a site that occurs
//! among its own creators takes the place that it had there, so a chain is never longer than there are sites. What
//! remains is bounded, for each process and by [`super::Limits::max_lineages`] for all. Beyond that, goroutines are
//! known by their site alone.

use hashbrown::HashTable;

use super::budget::Budget;
use super::ids::{LineageId, SiteId, StackId};
use super::table::mix;

/// The most edges that one process may have, so that none can use up the budget of all.
const MOST_OF_ONE: usize = 1 << 16;

/// Goroutines of one site and creation stack whose creators have one lineage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lineage {
    /// The site where they are created.
    pub site: SiteId,
    /// The calls from which they are created.
    pub stack: StackId,
    /// The lineage of their creators; `None` where the runtime itself created them, or it is not known who did.
    pub parent: Option<LineageId>,
    /// Creations since tracing began.
    pub created: u64,
    /// The creations up to when the time began that reports cover, and up to when the current epoch began.
    marks: [u64; 2],
    /// Goroutines that live.
    pub live: u64,
}

impl Lineage {
    /// Creations in the time that reports cover.
    pub fn created_in_window(&self) -> u64 {
        self.created.saturating_sub(self.marks[0])
    }
}

/// By what a lineage is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LineageKey {
    /// The lineage of the creator.
    pub parent: Option<LineageId>,
    pub stack: StackId,
    /// Return address of the site's `go` statement. It and `startpc` are 0 for the overflow row.
    pub gopc: u64,
    pub startpc: u64,
}

/// All lineages of a process instance.
pub struct Lineages {
    nodes: Vec<Lineage>,
    /// Which lineage the goroutines with a key have. In case of recursion, it is one of their own ancestors'.
    edges: HashTable<(LineageKey, LineageId)>,
    seed: u64,
    /// How many edges count against the budget.
    pub(super) taken: usize,
    cut: u64,
}

impl Lineages {
    pub(super) fn new(seed: u64) -> Lineages {
        Lineages { nodes: Vec::new(), edges: HashTable::new(), seed, taken: 0, cut: 0 }
    }

    /// All lineages, with the [`LineageId`] as index.
    pub fn all(&self) -> &[Lineage] {
        &self.nodes
    }

    /// How many goroutines have a lineage without a parent because the memory budget was used up.
    pub fn cut(&self) -> u64 {
        self.cut
    }

    /// Begins another epoch.
    pub(super) fn begin_epoch(&mut self) {
        for node in &mut self.nodes {
            node.marks = [node.marks[1], node.created];
        }
    }

    /// How many creations have a stack that could not be read or kept.
    pub fn without_stack(&self) -> u64 {
        self.nodes.iter().filter(|node| node.stack == StackId::LOST).map(|node| node.created).sum()
    }

    #[inline]
    pub(super) fn get(&self, id: LineageId) -> &Lineage {
        &self.nodes[id.0 as usize]
    }

    #[inline]
    pub(super) fn get_mut(&mut self, id: LineageId) -> &mut Lineage {
        &mut self.nodes[id.0 as usize]
    }

    /// Takes note that a goroutine of this lineage does not live any more. Returns its site.
    #[inline]
    pub(super) fn leave(&mut self, id: LineageId) -> SiteId {
        let node = self.get_mut(id);
        node.live -= 1;
        node.site
    }

    #[inline]
    pub(super) fn site(&self, id: LineageId) -> SiteId {
        self.get(id).site
    }

    /// The lineage with this key, if there is one.
    #[inline]
    pub(super) fn find(&self, key: &LineageKey) -> Option<LineageId> {
        let found = self.edges.find(hash(key, self.seed), |(known, _)| known == key);
        found.map(|&(_, lineage)| lineage)
    }

    /// The lineage with this key, which is a new one of `site` where there was none. Without budget, the creators are
    /// left out, and the goroutine is counted as cut.
    #[cold]
    pub(super) fn intern(&mut self, key: &LineageKey, site: SiteId, budget: &mut Budget) -> LineageId {
        if let Some(known) = self.find(key) {
            return known;
        }
        let origin = LineageKey { parent: None, stack: StackId::NONE, ..*key };
        if self.has_room(budget) {
            budget.lineages += 1;
            self.taken += 1;
            let earlier = self.ancestor(key.parent, site, key.stack);
            let lineage = earlier.unwrap_or_else(|| self.push(key, site));
            self.insert(*key, lineage);
            return lineage;
        }
        self.cut += 1;
        // There are no more of these lineages than sites.
        self.find(&origin).unwrap_or_else(|| {
            let lineage = self.push(&origin, site);
            self.insert(origin, lineage);
            lineage
        })
    }

    /// Whether there is room to tell the goroutines of another creator from others.
    pub(super) fn has_room(&self, budget: &Budget) -> bool {
        self.taken < MOST_OF_ONE && budget.has_room_for_lineage()
    }

    /// The lineage with the same site and stack among the creators, in case of recursion.
    fn ancestor(&self, from: Option<LineageId>, site: SiteId, stack: StackId) -> Option<LineageId> {
        let creators = std::iter::successors(from, |&id| self.get(id).parent);
        creators.into_iter().find(|&id| (self.get(id).site, self.get(id).stack) == (site, stack))
    }

    fn push(&mut self, key: &LineageKey, site: SiteId) -> LineageId {
        let id = LineageId(self.nodes.len() as u32);
        self.nodes.push(Lineage {
            site,
            stack: key.stack,
            parent: key.parent,
            created: 0,
            marks: [0; 2],
            live: 0,
        });
        id
    }

    fn insert(&mut self, key: LineageKey, lineage: LineageId) {
        let seed = self.seed;
        self.edges.insert_unique(hash(&key, seed), (key, lineage), |(key, _)| hash(key, seed));
    }
}

#[inline]
fn hash(key: &LineageKey, seed: u64) -> u64 {
    let parent = key.parent.map_or(u32::MAX, |parent| parent.0);
    let creator = u64::from(parent) << 32 | u64::from(key.stack.0);
    // The CPU can calculate both at the same time, since neither depends on the other.
    mix(key.gopc.rotate_left(32) ^ key.startpc, seed) ^ mix(creator, !seed)
}
