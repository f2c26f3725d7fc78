//! Which method ends what the goroutines of a library belong to. Go programs have the names of all their functions, so
//! the type whose goroutines are left tells by its own methods.

use crate::go::functions::endings::ENDINGS;
use crate::go::standard::package_path;

/// What a method gives is taken back by another one, maybe of another type.
const OPPOSITES: [(&str, &str); 4] =
    [("Acquire", "Release"), ("Subscribe", "Unsubscribe"), ("Connect", "Disconnect"), ("Borrow", "Return")];

/// A type by its package and name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Type<'name> {
    package: &'name str,
    name: &'name str,
}

impl<'name> Type<'name> {
    /// The type that a method, or a function within it, has as its receiver.
    pub(super) fn of_method(function: &'name str) -> Option<Type<'name>> {
        let package = package_path(function);
        let receiver = function.get(package.len()..)?.strip_prefix(".(*")?;
        let name = receiver.split([')', '[']).next()?;
        Some(Type { package, name })
    }

    /// The type that a function makes by its name: `NewClient` and `newClient` make a `Client`.
    pub(super) fn of_constructor(function: &'name str) -> Option<Type<'name>> {
        let package = package_path(function);
        let name = own_name(function).trim_end_matches("[...]");
        let made = name.strip_prefix("New").or_else(|| name.strip_prefix("new"))?;
        let made =
            made.split('.').next().filter(|made| made.starts_with(|first: char| first.is_uppercase()))?;
        Some(Type { package, name: made })
    }

    /// The method that ends a value of this type, by its full name. A type of an interface's name is taken for its
    /// implementation if only the first letter differs.
    pub(super) fn closed_by<'methods>(&self, methods: &'methods [String]) -> Option<&'methods str> {
        let mut letters = self.name.chars();
        let first = letters.next()?.to_lowercase().to_string();
        let names = [self.name.to_owned(), first + letters.as_str()];
        names.iter().find_map(|name| {
            ENDINGS.iter().find_map(|ending| {
                let wanted = format!("{}.(*{name}).{ending}", self.package);
                methods.binary_search(&wanted).ok().map(|at| methods[at].as_str())
            })
        })
    }
}

/// The method that gives back what this method gave, by its full name.
pub(super) fn opposite_of<'methods>(function: &str, methods: &'methods [String]) -> Option<&'methods str> {
    Type::of_method(function)?;
    let name = own_name(function);
    let is_verb = |verb: &str| {
        let rest = name.strip_prefix(verb);
        rest.is_some_and(|rest| !rest.starts_with(|next: char| next.is_lowercase()))
    };
    let (_, opposite) = OPPOSITES.iter().find(|(verb, _)| is_verb(verb))?;
    let package = format!("{}.(*", package_path(function));
    let own = methods.iter().skip(methods.partition_point(|method| *method < package));
    let mut own = own.take_while(|method| method.starts_with(&package));
    own.find(|method| own_name(method) == *opposite).map(String::as_str)
}

/// The function itself, if a user may call it: the name without closures in it. `None` if its name is not exported.
pub(super) fn exported(function: &str) -> Option<&str> {
    let name = own_name(function);
    let begin = function.len() - name.len();
    let end = name.find('.').map_or(function.len(), |dot| begin + dot);
    let is_exported = |part: &str| part.starts_with(|first: char| first.is_uppercase());
    let receiver = Type::of_method(function);
    (is_exported(name) && receiver.is_none_or(|receiver| is_exported(receiver.name)))
        .then(|| &function[..end])
}

/// A function's name without its package and receiver, with the closures that it is in.
fn own_name(function: &str) -> &str {
    let rest = function.get(package_path(function).len()..).unwrap_or_default().trim_start_matches('.');
    match rest.strip_prefix("(*").and_then(|receiver| receiver.split_once(").")) {
        Some((_, name)) => name,
        None => rest,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn methods() -> Vec<String> {
        let mut methods = [
            "example.com/kafka.(*asyncProducer).AsyncClose",
            "example.com/kafka.(*asyncProducer).Close",
            "example.com/pool.(*Pool).Close",
            "example.com/pool.(*Resource).Release",
            "example.com/pools.(*A).Release",
            "example.com/cron/v3.(*Cron).Stop",
        ]
        .map(str::to_owned);
        methods.sort();
        methods.to_vec()
    }

    #[test]
    fn a_type_is_told_by_its_methods_and_constructors() {
        let of = |function| Type::of_method(function).map(|found| (found.package, found.name));
        assert_eq!(of("net/http.(*Server).Serve.func1"), Some(("net/http", "Server")));
        assert_eq!(of("x.io/pool/v2.(*Pool[...]).Get"), Some(("x.io/pool/v2", "Pool")));
        assert_eq!(of("net/http.Serve"), None);
        let made = |function| Type::of_constructor(function).map(|found| found.name);
        assert_eq!(made("x.io/a.NewClient"), Some("Client"));
        assert_eq!(made("x.io/a.newClient.func1"), Some("Client"));
        assert_eq!(made("x.io/a.NewMap[...]"), Some("Map"));
        assert_eq!((made("x.io/a.New"), made("x.io/a.newly"), made("x.io/a.Open")), (None, None, None));
    }

    #[test]
    fn a_method_that_ends_it_is_found() {
        let methods = methods();
        let closed =
            |found: Option<Type>| found.and_then(|found| found.closed_by(&methods)).map(str::to_owned);
        let producer = Some("example.com/kafka.(*asyncProducer).Close".to_owned());
        assert_eq!(closed(Type::of_method("example.com/kafka.(*asyncProducer).dispatcher")), producer);
        assert_eq!(closed(Type::of_constructor("example.com/kafka.NewAsyncProducer")), producer);
        assert_eq!(closed(Type::of_method("example.com/kafka.(*brokerProducer).run")), None);
        let cron = Some("example.com/cron/v3.(*Cron).Stop".to_owned());
        assert_eq!(closed(Type::of_method("example.com/cron/v3.(*Cron).run")), cron);
    }

    #[test]
    fn what_a_method_gave_is_given_back_by_another() {
        let methods = methods();
        let opposite = |function| opposite_of(function, &methods);
        let release = Some("example.com/pool.(*Resource).Release");
        assert_eq!(opposite("example.com/pool.(*Pool).Acquire.func1"), release);
        assert_eq!(opposite("example.com/pool.(*Pool).AcquireAll"), release);
        assert_eq!(opposite("example.com/pool.(*Pool).Acquired"), None);
        assert_eq!(opposite("example.com/pool.Acquire"), None);
        assert_eq!(opposite("example.com/kafka.(*T).Acquire"), None);
    }

    #[test]
    fn only_what_is_exported_is_the_users_to_call() {
        assert_eq!(exported("x.io/p.(*Pool).Acquire.func1"), Some("x.io/p.(*Pool).Acquire"));
        assert_eq!(exported("x.io/p.NewPool"), Some("x.io/p.NewPool"));
        assert_eq!(exported("x.io/p.newPool.func1"), None);
        assert_eq!(exported("x.io/p.(*pool).Run"), None);
        assert_eq!(exported("main"), None);
    }
}
