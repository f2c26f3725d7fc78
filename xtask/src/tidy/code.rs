//! A Rust file as the words of its code: without comments, without what strings say, and without what only tests
//! compile.
//!
//! Rust's own lexer reads it, so that no quote or comment can mislead. What stands in a macro's brackets is words like
//! all others.

use std::str::FromStr;

use proc_macro2::{Delimiter, LexError, Spacing, TokenStream, TokenTree};

/// Signs that are written one after the other and mean one thing together.
const LONG_SIGNS: [&str; 9] = ["::", "->", "=>", "<=", ">=", "==", "!=", "&&", "||"];

/// The words that begin an item with a body.
const ITEMS: [&str; 12] = [
    "mod",
    "fn",
    "const",
    "unsafe",
    "async",
    "extern",
    "impl",
    "struct",
    "enum",
    "union",
    "trait",
    "macro_rules",
];

/// A name, a sign, a bracket, or something literal.
#[derive(Debug)]
pub struct Token {
    /// The text as it is written. It is empty for strings and numbers, since what they say uses nothing.
    pub text: String,
    /// Whether it is a name or a keyword.
    pub is_word: bool,
    /// The line of the file, from 1.
    pub line: usize,
}

/// The words of a file.
#[derive(Debug, Default)]
pub struct Code {
    /// The tokens in their order.
    pub tokens: Vec<Token>,
    /// Modules in files of their own that only tests compile.
    pub test_modules: Vec<String>,
}

impl Code {
    /// Reads the text of a file.
    ///
    /// # Errors
    /// The line, from 1, where it is no Rust.
    pub fn of(text: &str) -> Result<Code, usize> {
        let stream =
            TokenStream::from_str(text).map_err(|error: LexError| error.span().start().line.max(1))?;
        let mut tokens = Vec::new();
        flatten(stream, &mut tokens);
        Ok(without_tests(tokens))
    }

    /// Whether there is this text at a place.
    pub fn is(&self, index: usize, text: &str) -> bool {
        self.tokens.get(index).is_some_and(|token| token.text == text)
    }

    /// The word at a place, if there is one.
    pub fn word(&self, index: usize) -> Option<&str> {
        self.tokens.get(index).filter(|token| token.is_word).map(|token| token.text.as_str())
    }

    /// The text before a place, which is empty at the start.
    pub fn before(&self, index: usize) -> &str {
        index.checked_sub(1).and_then(|index| self.tokens.get(index)).map_or("", |token| &token.text)
    }

    /// The place of the bracket that closes the one at a place, or the end if there is none.
    pub fn close(&self, open: usize) -> usize {
        close(&self.tokens, open)
    }
}

fn flatten(stream: TokenStream, tokens: &mut Vec<Token>) {
    let mut joined = false;
    for tree in stream {
        let line = tree.span().start().line;
        let mut push = |text: &str, is_word, line| {
            tokens.push(Token { text: text.to_owned(), is_word, line });
        };
        match tree {
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Parenthesis => ("(", ")"),
                    Delimiter::Brace => ("{", "}"),
                    Delimiter::Bracket => ("[", "]"),
                    Delimiter::None => ("", ""),
                };
                push(open, false, line);
                flatten(group.stream(), tokens);
                let line = group.span_close().end().line;
                tokens.push(Token { text: close.to_owned(), is_word: false, line });
                joined = false;
            }
            TokenTree::Ident(ident) => {
                let text = ident.to_string();
                push(text.strip_prefix("r#").unwrap_or(&text), true, line);
                joined = false;
            }
            TokenTree::Literal(_) => {
                push("", false, line);
                joined = false;
            }
            TokenTree::Punct(sign) => {
                let long = tokens.last().map(|last| format!("{}{}", last.text, sign.as_char()));
                let long = long.filter(|long| joined && LONG_SIGNS.contains(&long.as_str()));
                match (long, tokens.last_mut()) {
                    (Some(long), Some(last)) => last.text = long,
                    _ => tokens.push(Token { text: sign.as_char().to_string(), is_word: false, line }),
                }
                joined = sign.spacing() == Spacing::Joint;
            }
        }
    }
}

fn close(tokens: &[Token], open: usize) -> usize {
    let mut depth = 0_usize;
    for (index, token) in tokens.iter().enumerate().skip(open) {
        match token.text.as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return index;
        }
    }
    tokens.len()
}

/// Leaves out whatever `#[cfg(test)]` stands before.
fn without_tests(tokens: Vec<Token>) -> Code {
    let mut skipped = vec![false; tokens.len()];
    let mut test_modules = Vec::new();
    let is = |index: usize, text: &str| tokens.get(index).is_some_and(|token: &Token| token.text == text);
    let mut index = 0;
    while index < tokens.len() {
        // `#![cfg(test)]` stands for the whole file.
        let inner = usize::from(is(index + 1, "!"));
        if !is(index, "#") || !is(index + 1 + inner, "[") || !is_of_tests(&tokens, index + 2 + inner) {
            index += 1;
            continue;
        }
        if inner == 1 {
            return Code::default();
        }
        let mut start = index;
        while is(start, "#") && is(start + 1, "[") {
            start = close(&tokens, start + 1) + 1;
        }
        let end = item_end(&tokens, start);
        let module = (start..end).find(|&at| is(at, "mod"));
        if let Some(module) = module.filter(|&module| is(module + 2, ";") && module + 3 == end) {
            test_modules.push(tokens[module + 1].text.clone());
        }
        skipped[index..end].fill(true);
        index = end;
    }
    let kept = tokens.into_iter().zip(skipped).filter(|(_, skipped)| !skipped).map(|(token, _)| token);
    Code { tokens: kept.collect(), test_modules }
}

/// Whether what stands in an attribute's brackets is `cfg(test)`, or `cfg(all(test, …))`.
fn is_of_tests(tokens: &[Token], start: usize) -> bool {
    let is = |index: usize, text: &str| tokens.get(index).is_some_and(|token| token.text == text);
    if !is(start, "cfg") || !is(start + 1, "(") {
        return false;
    }
    let all = is(start + 2, "all") && is(start + 3, "(");
    let open = if all { start + 3 } else { start + 1 };
    let mut index = open + 1;
    while index < close(tokens, open) {
        if is(index, "test") {
            return true;
        }
        index = if is(index, "(") { close(tokens, index) + 1 } else { index + 1 };
    }
    false
}

/// Where an item, a field or a statement ends that begins at a place.
fn item_end(tokens: &[Token], start: usize) -> usize {
    let text = |index: usize| tokens.get(index).map_or("", |token| token.text.as_str());
    let mut first = start;
    if text(first) == "pub" {
        first += 1;
        if text(first) == "(" {
            first = close(tokens, first) + 1;
        }
    }
    let is_constant = text(first) == "const" && !matches!(text(first + 1), "fn" | "unsafe" | "extern");
    let has_semicolon = is_constant || matches!(text(first), "use" | "static" | "let" | "type");
    let has_block = !has_semicolon && ITEMS.contains(&text(first));
    let mut index = first;
    while index < tokens.len() {
        match text(index) {
            ";" => return index + 1,
            "," if !has_block && !has_semicolon => return index + 1,
            // What is around the item ends here, so this was its last field.
            "}" | ")" | "]" => return index,
            open @ ("(" | "[" | "{") => {
                let end = (close(tokens, index) + 1).min(tokens.len());
                let is_macro = index > first && text(index - 1) == "!";
                if open == "{" && (has_block || is_macro && !has_semicolon) {
                    return end;
                }
                index = end;
            }
            _ => index += 1,
        }
    }
    tokens.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> String {
        let code = Code::of(text).unwrap();
        code.tokens.iter().map(|token| token.text.as_str()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn comments_and_strings_say_nothing() {
        assert_eq!(words("// a::b\n/* c /* d */ e */ x::r#type"), "x :: type");
        assert_eq!(words(r##"f("a::b \" c", r#"d " e"#, b"f", 'g', '\'', 1.5)"##), "f (  ,  ,  ,  ,  ,  )");
        assert_eq!(words("a >= b && c -> d"), "a >= b && c -> d");
        assert!(!words("/// [`crate::x`]\nfn a() {}").contains("crate"));
    }

    #[test]
    fn lines_are_those_of_the_file() {
        let code = Code::of("a\n/* \n */ b(\n  c,\n)\n").unwrap();
        let lines: Vec<_> = code.tokens.iter().map(|token| (token.text.as_str(), token.line)).collect();
        assert_eq!(lines, [("a", 1), ("b", 3), ("(", 3), ("c", 4), (",", 4), (")", 5)]);
        assert_eq!(Code::of("a\n\"b").err(), Some(2));
    }

    #[test]
    fn what_only_tests_compile_is_left_out() {
        for (text, left) in [
            ("#[cfg(test)] mod tests { use super::*; fn f() {} } x", "x"),
            ("#[cfg(test)] #[allow(a)] mod tests { } x", "x"),
            ("#[cfg(test)] pub(crate) use a::{b, c}; x", "x"),
            ("#[cfg(test)] pub(super) fn f<A, B>(a: [u8; 2]) -> C { d } x", "x"),
            ("#[cfg(test)] const fn f() {} x", "x"),
            ("#[cfg(test)] const A: B = B { c: 1, d: 2 }; x", "x"),
            ("#[cfg(test)] impl A { } x", "x"),
            ("struct A { #[cfg(test)] b: C, x }", "struct A { x }"),
            ("struct A { x, #[cfg(test)] b: C }", "struct A { x , }"),
            ("#[cfg(test)] thread_local! { } x", "x"),
            ("#[cfg(all(unix, test))] mod a { } x", "x"),
            ("#[cfg(not(test))] x", "# [ cfg ( not ( test ) ) ] x"),
            ("#[cfg(any(unix, test))] x", "# [ cfg ( any ( unix , test ) ) ] x"),
            ("#![cfg(test)] x", ""),
        ] {
            assert_eq!(words(text), left, "{text}");
        }
        let code = Code::of("#[cfg(test)]\npub(crate) mod model;\n#[cfg(test)] mod a { mod b; }").unwrap();
        assert_eq!(code.test_modules, ["model"]);
    }
}
