//! What stages remember of one request, each value under a type of its own. A request of which nobody remembers
//! anything pays nothing for it.

use std::any::Any;

/// Values by their type; one of each.
#[derive(Default)]
pub struct Context(Vec<Box<dyn Any>>);

impl Context {
    /// The value of this type, if it was put here.
    pub fn get<T: 'static>(&self) -> Option<&T> {
        self.0.iter().find_map(|held| held.downcast_ref())
    }

    /// The same, to be changed.
    pub fn get_mut<T: 'static>(&mut self) -> Option<&mut T> {
        self.0.iter_mut().find_map(|held| held.downcast_mut())
    }

    /// Keeps a value; returns the one of the same type that was here before.
    pub fn put<T: 'static>(&mut self, value: T) -> Option<T> {
        if let Some(held) = self.get_mut() {
            return Some(std::mem::replace(held, value));
        }
        self.0.push(Box::new(value));
        None
    }
}

#[cfg(test)]
mod tests {
    use super::Context;

    #[derive(Debug, PartialEq)]
    struct Attempts(u32);

    #[test]
    fn one_value_of_each_type() {
        let mut context = Context::default();
        assert_eq!(context.get::<Attempts>(), None);
        assert_eq!(context.put(Attempts(1)), None);
        assert_eq!(context.put("text"), None);
        assert_eq!(context.put(Attempts(2)), Some(Attempts(1)));
        context.get_mut::<Attempts>().unwrap().0 += 1;
        assert_eq!((context.get(), context.get()), (Some(&Attempts(3)), Some(&"text")));
    }
}
