//! Values by host names, exact ones and `*.` before others. Names are compared in lower case.

use std::collections::HashMap;

/// A table by host names.
#[derive(Clone, Debug)]
pub struct Names<T> {
    exact: HashMap<Box<str>, T>,
    /// By what follows `*.`.
    below: HashMap<Box<str>, T>,
}

impl<T> Default for Names<T> {
    fn default() -> Self {
        Self { exact: HashMap::new(), below: HashMap::new() }
    }
}

impl<T> Names<T> {
    fn place(&mut self, pattern: &str) -> (&mut HashMap<Box<str>, T>, Box<str>) {
        let lower = pattern.to_ascii_lowercase();
        match lower.strip_prefix("*.") {
            Some(parent) => (&mut self.below, parent.into()),
            None => (&mut self.exact, lower.into()),
        }
    }

    /// Puts a value in; one with this name goes.
    pub fn insert(&mut self, pattern: &str, value: T) {
        let (map, key) = self.place(pattern);
        map.insert(key, value);
    }

    /// The value of a pattern, made where there is none.
    pub fn entry(&mut self, pattern: &str) -> &mut T
    where
        T: Default,
    {
        let (map, key) = self.place(pattern);
        map.entry(key).or_default()
    }

    /// The value that stands under a pattern itself.
    pub fn get(&self, pattern: &str) -> Option<&T> {
        pattern.strip_prefix("*.").map_or_else(|| self.exact.get(pattern), |parent| self.below.get(parent))
    }

    /// The exact name, or the longest wildcard above it.
    pub fn find(&self, name: &str) -> Option<&T> {
        let name = name.strip_suffix('.').unwrap_or(name);
        self.exact.get(name).or_else(|| {
            if self.below.is_empty() {
                return None;
            }
            let parents = std::iter::successors(Some(name), |name| Some(name.split_once('.')?.1));
            parents.skip(1).find_map(|parent| self.below.get(parent))
        })
    }

    /// The exact name, and the wildcard of its parent, which stands for one label only (RFC 9525 section 6.3).
    pub fn of_certificates(&self, name: &str) -> [Option<&T>; 2] {
        let name = name.strip_suffix('.').unwrap_or(name);
        let parent = name.split_once('.').and_then(|(_, parent)| self.below.get(parent));
        [self.exact.get(name), parent]
    }

    /// All values.
    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.exact.values().chain(self.below.values())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_counts() {
        let mut names = Names::default();
        for (value, pattern) in ["*.a.test", "*.b.a.test", "c.a.test", "A.Test"].into_iter().enumerate() {
            names.insert(pattern, value);
        }
        let found = ["x.a.test", "x.y.a.test", "x.b.a.test", "b.a.test", "c.a.test", "a.test", "a.test.", "test", ""];
        let expected = [Some(0), Some(0), Some(1), Some(0), Some(2), Some(3), Some(3), None, None];
        assert_eq!(found.map(|name| names.find(name).copied()), expected);
        assert_eq!(names.of_certificates("x.y.a.test"), [None, None]);
        assert_eq!(names.of_certificates("c.a.test"), [Some(&2), Some(&0)]);
        *names.entry("*.a.test") = 9;
        assert_eq!((names.get("*.a.test"), names.get("x.a.test")), (Some(&9), None));
    }
}
