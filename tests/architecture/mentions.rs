//! Reads one source file and tells which paths it names, each in full: through
//! `use` and its renames, `self`, `super`, attributes and macro arguments.

use std::collections::HashMap;

use proc_macro2::{Delimiter, Spacing, TokenStream, TokenTree};
use syn::{
    Attribute, ImplItemFn, Item, ItemExternCrate, ItemMod, ItemUse, Macro, Meta, Path, Token,
    UseTree, Visibility,
    punctuated::Punctuated,
    visit::{self, Visit},
};

/// A path that a file names.
#[derive(Clone, Debug)]
pub(crate) struct Mention {
    /// `crate::store::Store`, `tokio::time::sleep`; a macro's name ends in `!`.
    pub(crate) path: Vec<String>,
    pub(crate) line: usize,
    /// Compiled for tests only.
    pub(crate) tests: bool,
    /// Imports everything beneath the path.
    pub(crate) glob: bool,
    /// Hands the path on under a name of this module.
    pub(crate) reexport: bool,
}

/// What one file says.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    pub(crate) mentions: Vec<Mention>,
    /// Modules in files of their own that are compiled for tests only.
    pub(crate) test_modules: Vec<Vec<String>>,
    /// Modules in files of their own.
    pub(crate) modules: Vec<Vec<String>>,
    /// Lines that place a module's file by hand.
    pub(crate) path_attributes: Vec<usize>,
}

/// Reads the file of `module`, given as the path from the crate's root.
pub(crate) fn read(module: &[String], text: &str) -> syn::Result<Reading> {
    let file = syn::parse_file(text)?;
    let mut collector = Collector { scope: module.to_vec(), ..Collector::default() };
    collector.tests = usize::from(file.attrs.iter().any(only_for_tests));
    collector.visit_file(&file);
    Ok(collector.finish())
}

/// A path as it stands in the source.
struct Raw {
    scope: Vec<String>,
    segments: Vec<String>,
    line: usize,
    tests: bool,
    glob: bool,
    reexport: bool,
}

/// What a name stands for: a path, and the module whose names that path uses.
type Meaning = (Vec<String>, Vec<String>);

#[derive(Default)]
struct Collector {
    /// The module that is being read.
    scope: Vec<String>,
    /// How many of the items around are compiled for tests only.
    tests: usize,
    raws: Vec<Raw>,
    names: HashMap<(Vec<String>, String), Vec<Meaning>>,
    reading: Reading,
}

impl Collector {
    fn record(&mut self, segments: Vec<String>, line: usize) {
        self.push(segments, line, false, false);
    }

    fn push(&mut self, segments: Vec<String>, line: usize, glob: bool, reexport: bool) {
        let tests = self.tests > 0;
        self.raws.push(Raw { scope: self.scope.clone(), segments, line, tests, glob, reexport });
    }

    fn name(&mut self, name: String, path: Vec<String>) {
        let key = (self.scope.clone(), name);
        self.names.entry(key).or_default().push((path, self.scope.clone()));
    }

    fn within(&mut self, attributes: &[Attribute], visit: impl FnOnce(&mut Self)) {
        let tests = usize::from(attributes.iter().any(only_for_tests));
        self.tests += tests;
        visit(self);
        self.tests -= tests;
    }

    fn use_tree(&mut self, tree: &UseTree, mut prefix: Vec<String>, reexport: bool) {
        match tree {
            UseTree::Path(path) => {
                prefix.push(path.ident.to_string());
                self.use_tree(&path.tree, prefix, reexport);
            }
            UseTree::Group(group) => {
                for tree in &group.items {
                    self.use_tree(tree, prefix.clone(), reexport);
                }
            }
            UseTree::Glob(glob) => {
                let line = glob.star_token.spans[0].start().line;
                self.push(prefix, line, true, reexport);
            }
            UseTree::Name(name) => {
                if name.ident != "self" {
                    prefix.push(name.ident.to_string());
                }
                let line = name.ident.span().start().line;
                if let Some(last) = prefix.last().cloned() {
                    self.name(last, prefix.clone());
                }
                self.push(prefix, line, false, reexport);
            }
            UseTree::Rename(rename) => {
                if rename.ident != "self" {
                    prefix.push(rename.ident.to_string());
                }
                self.name(rename.rename.to_string(), prefix.clone());
                self.push(prefix, rename.ident.span().start().line, false, reexport);
            }
        }
    }

    /// Finds the paths in tokens that are not parsed: macro arguments. `prefix`
    /// stands before each part of a group, as in `crate::{a, b}`.
    fn scan(&mut self, tokens: TokenStream, prefix: &[String]) {
        let mut path = prefix.to_vec();
        let mut joined = !prefix.is_empty();
        let mut line = 0;
        let mut trees = tokens.into_iter().peekable();
        while let Some(tree) = trees.next() {
            match tree {
                TokenTree::Ident(ident) => {
                    if !joined {
                        self.flush(&mut path, line);
                    }
                    if path.len() == prefix.len() {
                        line = ident.span().start().line;
                    }
                    path.push(ident.to_string());
                    joined = false;
                }
                TokenTree::Punct(punct)
                    if punct.as_char() == ':' && punct.spacing() == Spacing::Joint =>
                {
                    joined = !path.is_empty();
                    trees.next();
                }
                TokenTree::Punct(punct) if punct.as_char() == '*' && joined => {
                    self.push(std::mem::take(&mut path), punct.span().start().line, true, false);
                    joined = false;
                }
                TokenTree::Punct(punct) if punct.as_char() == '!' => {
                    if let (Some(last), Some(TokenTree::Group(_))) = (path.last_mut(), trees.peek())
                    {
                        last.push('!');
                    }
                    self.flush(&mut path, line);
                    joined = false;
                }
                TokenTree::Punct(punct) if punct.as_char() == ',' => {
                    self.flush(&mut path, line);
                    path = prefix.to_vec();
                    joined = !prefix.is_empty();
                }
                TokenTree::Group(group) if joined && group.delimiter() == Delimiter::Brace => {
                    self.scan(group.stream(), &std::mem::take(&mut path));
                    joined = false;
                }
                TokenTree::Group(group) => {
                    self.flush(&mut path, line);
                    joined = false;
                    self.scan(group.stream(), &[]);
                }
                TokenTree::Punct(_) | TokenTree::Literal(_) => {
                    self.flush(&mut path, line);
                    joined = false;
                }
            }
        }
        self.flush(&mut path, line);
    }

    fn flush(&mut self, path: &mut Vec<String>, line: usize) {
        let path = std::mem::take(path);
        if path.len() > 1 || path.iter().any(|name| name.ends_with('!')) {
            self.record(path, line);
        }
    }

    fn finish(mut self) -> Reading {
        for raw in std::mem::take(&mut self.raws) {
            for path in self.resolve(&raw.scope, &raw.segments, 0) {
                self.reading.mentions.push(Mention {
                    path,
                    line: raw.line,
                    tests: raw.tests,
                    glob: raw.glob,
                    reexport: raw.reexport,
                });
            }
        }
        self.reading
    }

    /// All that a path may mean in its module.
    fn resolve(&self, scope: &[String], segments: &[String], depth: usize) -> Vec<Vec<String>> {
        let rooted = |module: &[String], rest: &[String]| {
            vec![[&["crate".to_owned()], module, rest].concat()]
        };
        let Some((first, rest)) = segments.split_first() else { return Vec::new() };
        match first.as_str() {
            // The binary names the library's rooms by the package's name.
            "crate" | "blindbook" => return rooted(&[], rest),
            "self" => return rooted(scope, rest),
            "super" => {
                let ups = segments.iter().take_while(|name| *name == "super").count();
                let module = &scope[..scope.len().saturating_sub(ups)];
                return rooted(module, &segments[ups..]);
            }
            _ => {}
        }
        // A name means what its own module says, else what a module around says
        // (`use super::*`). A chain of renames longer than this is not followed.
        if depth < 8 {
            for end in (0..=scope.len()).rev() {
                let key = (scope[..end].to_vec(), first.clone());
                let Some(meanings) = self.names.get(&key) else { continue };
                let mut paths = Vec::new();
                for (path, module) in meanings {
                    if path.first() == Some(first) {
                        paths.push([path.as_slice(), rest].concat());
                    } else {
                        let full = [path.as_slice(), rest].concat();
                        paths.extend(self.resolve(module, &full, depth + 1));
                    }
                }
                return paths;
            }
        }
        vec![segments.to_vec()]
    }
}

impl<'ast> Visit<'ast> for Collector {
    fn visit_item(&mut self, item: &'ast Item) {
        self.within(attributes(item), |this| visit::visit_item(this, item));
    }

    fn visit_impl_item_fn(&mut self, item: &'ast ImplItemFn) {
        self.within(&item.attrs, |this| visit::visit_impl_item_fn(this, item));
    }

    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        let name = item.ident.to_string();
        let path = [self.scope.as_slice(), std::slice::from_ref(&name)].concat();
        self.name(name.clone(), [&["crate".to_owned()], path.as_slice()].concat());
        if item.content.is_none() {
            if self.tests > 0 {
                self.reading.test_modules.push(path.clone());
            }
            self.reading.modules.push(path);
        }
        for attribute in &item.attrs {
            if attribute.path().is_ident("path") {
                self.reading.path_attributes.push(item.ident.span().start().line);
            }
        }
        self.scope.push(name);
        visit::visit_item_mod(self, item);
        self.scope.pop();
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        let reexport = !matches!(item.vis, Visibility::Inherited);
        self.use_tree(&item.tree, Vec::new(), reexport);
    }

    fn visit_item_extern_crate(&mut self, item: &'ast ItemExternCrate) {
        let path = vec![item.ident.to_string()];
        if let Some((_, rename)) = &item.rename {
            self.name(rename.to_string(), path.clone());
        }
        self.record(path, item.ident.span().start().line);
    }

    fn visit_path(&mut self, path: &'ast Path) {
        if path.segments.len() > 1 {
            let (segments, line) = segments(path);
            self.record(segments, line);
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, mac: &'ast Macro) {
        let (mut segments, line) = segments(&mac.path);
        if let Some(last) = segments.last_mut() {
            last.push('!');
        }
        self.record(segments, line);
        self.visit_token_stream(&mac.tokens);
    }

    fn visit_token_stream(&mut self, tokens: &'ast TokenStream) {
        self.scan(tokens.clone(), &[]);
    }
}

fn segments(path: &Path) -> (Vec<String>, usize) {
    let line = path.segments.first().map_or(0, |segment| segment.ident.span().start().line);
    (path.segments.iter().map(|segment| segment.ident.to_string()).collect(), line)
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::ExternCrate(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::ForeignMod(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::TraitAlias(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Union(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

/// Whether what stands under this attribute exists in tests only. What exists in
/// tests *and* elsewhere, as under `any(test, ...)`, is judged like all code.
fn only_for_tests(attribute: &Attribute) -> bool {
    let path = attribute.path();
    if path.segments.last().is_some_and(|segment| segment.ident == "test") {
        return true;
    }
    path.is_ident("cfg") && attribute.parse_args::<Meta>().is_ok_and(|meta| requires_test(&meta))
}

fn requires_test(meta: &Meta) -> bool {
    match meta {
        Meta::Path(path) => path.is_ident("test"),
        Meta::List(list) if list.path.is_ident("all") => list
            .parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated)
            .is_ok_and(|metas| metas.iter().any(requires_test)),
        _ => false,
    }
}
