//! Circles of imports: two files that use each other can only be read, moved and tested together.
//!
//! The files and folders in a folder must have an order in which each uses only those before it, where a folder counts
//! as a whole. There is one exception: the files in a folder may use what the module of the folder declares, although
//! that uses them. A re-export by such a module does not count; whoever uses it uses the file that it comes from.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{
    Breach,
    house::{File, House},
    imports::How,
};

/// Something in a folder: a file, or a folder with all files below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Node<'a> {
    File(&'a str),
    Folder(&'a str),
}

/// One use that joins two nodes: the file that uses, the line, the file that is used.
type Use<'a> = (&'a File, usize, &'a File);

/// Which files and folders in one folder use which others there. The first use stands for all.
#[derive(Default)]
struct Graph<'a> {
    edges: BTreeMap<Node<'a>, BTreeMap<Node<'a>, Use<'a>>>,
}

/// Adds circles, the shortest first. No use is in two of them, so that each needs a change of its own.
pub fn check(house: &House, breaches: &mut Vec<Breach>) {
    for (folder, graph) in graphs(house) {
        let edges = graph.edges.iter().flat_map(|(from, edges)| edges.keys().map(|to| (*from, *to)));
        let mut circles: Vec<_> = edges.filter_map(|(from, to)| graph.circle(from, to)).collect();
        circles.sort_by_key(Vec::len);
        let mut reported: BTreeSet<(Node<'_>, Node<'_>)> = BTreeSet::new();
        for circle in circles {
            let uses: Vec<_> = circle.iter().copied().zip(circle.iter().copied().cycle().skip(1)).collect();
            if !uses.iter().any(|edge| reported.contains(edge)) {
                reported.extend(uses);
                breaches.push(graph.breach(folder, &circle));
            }
        }
    }
}

/// The graphs of all folders, by the folder's path.
fn graphs(house: &House) -> BTreeMap<&[String], Graph<'_>> {
    let mut graphs: BTreeMap<&[String], Graph<'_>> = BTreeMap::new();
    for file in &house.files {
        for import in &file.imports.inside {
            // A `use` of a module alone uses nothing yet. Paths that begin with the module's name count where they
            // stand.
            let is_mere_name = import.how == How::Use && !import.is_glob && house.is_module(&import.path);
            if is_mere_name || import.how == How::Reexport && file.is_head {
                continue;
            }
            let Some(used) = house.definer(&import.path) else { continue };
            if used.is_head && used.folder == file.folder {
                continue;
            }
            let common = file.folder.iter().zip(&used.folder).take_while(|(a, b)| a == b).count();
            let (from, to) = (node(file, common), node(used, common));
            if from != to {
                let graph = graphs.entry(&file.folder[..common]).or_default();
                graph.edges.entry(from).or_default().entry(to).or_insert((file, import.line, used));
            }
        }
    }
    graphs
}

/// What a file belongs to in the folder at this depth of the file's path: itself, or a folder.
fn node(file: &File, depth: usize) -> Node<'_> {
    match file.folder.get(depth) {
        Some(folder) => Node::Folder(folder),
        None => Node::File(&file.name),
    }
}

impl<'a> Graph<'a> {
    /// The shortest circle that this edge is part of.
    fn circle(&self, from: Node<'a>, to: Node<'a>) -> Option<Vec<Node<'a>>> {
        let mut before = BTreeMap::from([(to, to)]);
        let mut queue = VecDeque::from([to]);
        while let Some(node) = queue.pop_front() {
            for next in self.edges.get(&node).into_iter().flat_map(BTreeMap::keys) {
                if !before.contains_key(next) {
                    before.insert(*next, node);
                    queue.push_back(*next);
                }
            }
        }
        before.get(&from)?;
        let mut circle = vec![from];
        let mut node = from;
        while node != to {
            node = before[&node];
            circle.push(node);
        }
        circle[1..].reverse();
        Some(circle)
    }

    /// The breach that a circle is. It names the nodes in order, and for each the line that uses the next one.
    fn breach(&self, folder: &[String], circle: &[Node<'a>]) -> Breach {
        let first = circle.iter().enumerate().min_by_key(|(_, node)| **node).map_or(0, |(index, _)| index);
        let mut order = circle.to_vec();
        order.rotate_left(first);
        let name = |node: &Node<'_>| match node {
            Node::File(name) => (*name).to_owned(),
            Node::Folder(name) => {
                format!("{}{name}/", folder.iter().map(|part| format!("{part}/")).collect::<String>())
            }
        };
        let names: Vec<_> = order.iter().chain(order.first()).map(name).collect();
        let what = format!("a circle: {}", names.join(" → "));
        let next = order.iter().cycle().skip(1);
        let uses: Vec<_> =
            order.iter().zip(next).filter_map(|(from, to)| self.edges.get(from)?.get(to)).collect();
        let shown: Vec<_> =
            uses.iter().map(|(from, line, to)| format!("{}:{line} uses {}", from.name, to.name)).collect();
        let (file, line) = uses.first().map_or((String::new(), 0), |(file, line, _)| (file.path(), *line));
        Breach { detail: shown.join(", "), ..Breach::new(file, line, what) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::house::testing;

    fn circles(files: &[(&str, &str)]) -> Vec<String> {
        let mut breaches = Vec::new();
        check(&testing::house(files), &mut breaches);
        breaches.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn files_in_a_folder_have_an_order() {
        let files = [
            ("a/mod.rs", "mod b; mod c; mod d;"),
            ("a/b.rs", "use super::c::C;"),
            ("a/c.rs", "\nuse super::d::D;"),
            ("a/d.rs", "fn f() { crate::a::b::g() }"),
        ];
        assert_eq!(
            circles(&files),
            ["tracer-user/src/a/b.rs:1: a circle: a/b.rs → a/c.rs → a/d.rs → a/b.rs \
             (a/b.rs:1 uses a/c.rs, a/c.rs:2 uses a/d.rs, a/d.rs:1 uses a/b.rs)"]
        );
        assert_eq!(circles(&files[..3]), [""; 0]);
    }

    #[test]
    fn files_may_use_what_their_module_declares() {
        let files = [
            ("a/mod.rs", "mod b; mod c; use b::B; pub struct A;"),
            ("a/b.rs", "use super::c::C;"),
            ("a/c.rs", "use super::A;"),
        ];
        assert_eq!(circles(&files), [""; 0]);
        let files = [files[0], files[1], ("a/c.rs", "use super::B;")];
        assert_eq!(circles(&files).len(), 1, "but what it imports is declared elsewhere");
    }

    #[test]
    fn re_exports_of_a_module_are_not_imports() {
        let files = [
            (
                "go/mod.rs",
                "pub mod file; pub mod plan; mod binary; pub use binary::Binary; pub use file::Image;",
            ),
            ("go/binary.rs", "use super::plan::Plan; use super::Image;"),
            ("go/file/mod.rs", "mod image; pub use image::Image;"),
            ("go/file/image.rs", "pub struct Image;"),
            ("go/plan/mod.rs", "use crate::go::Image; pub struct Plan;"),
        ];
        assert_eq!(circles(&files), [""; 0]);
        let file = ("go/file/image.rs", "use crate::go::Binary; pub struct Image;");
        let files: Vec<_> = files.into_iter().map(|old| if old.0 == file.0 { file } else { old }).collect();
        assert_eq!(
            circles(&files),
            ["tracer-user/src/go/binary.rs:1: a circle: go/binary.rs → go/file/ → go/binary.rs \
             (go/binary.rs:1 uses go/file/image.rs, go/file/image.rs:1 uses go/binary.rs)"]
        );
    }

    #[test]
    fn folders_are_looked_at_as_a_whole() {
        // No two files use each other here, but the folders do.
        let files = [
            ("go/file/a.rs", "use crate::go::plan::deep::B;"),
            ("go/file/c.rs", ""),
            ("go/plan/deep/mod.rs", "pub struct B;"),
            ("go/plan/d.rs", "use crate::go::file::c;\nfn f() { c::g() }"),
        ];
        assert_eq!(
            circles(&files),
            ["tracer-user/src/go/file/a.rs:1: a circle: go/file/ → go/plan/ → go/file/ \
             (go/file/a.rs:1 uses go/plan/deep/mod.rs, go/plan/d.rs:2 uses go/file/c.rs)"]
        );
        // Rooms may not use each other either.
        let files = [
            ("a.rs", "use crate::b::B;"),
            ("b/mod.rs", "mod c; pub struct B;"),
            ("b/c.rs", "use crate::a::A;"),
        ];
        assert_eq!(circles(&files).len(), 1);
    }

    #[test]
    fn a_folder_and_the_module_above_it_are_no_pair() {
        let files = [
            ("verdict/mod.rs", "mod cause; pub struct Verdict; fn f() { cause::of() }"),
            ("verdict/cause/mod.rs", "use super::Verdict;"),
        ];
        assert_eq!(
            circles(&files),
            ["tracer-user/src/verdict/mod.rs:1: a circle: verdict/mod.rs → verdict/cause/ → verdict/mod.rs \
             (verdict/mod.rs:1 uses verdict/cause/mod.rs, verdict/cause/mod.rs:1 uses verdict/mod.rs)"]
        );
    }
}
