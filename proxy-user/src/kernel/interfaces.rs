//! Interfaces that a reload adds or takes away: the new ones carry `front` before anything else changes, and the others
//! are let go last. Those that stay are not touched.

use std::sync::PoisonError;

use anyhow::{Context, Result};
use proxy_core::config::Gate;

use super::{Kernel, attach};

impl Kernel {
    /// Attaches `front` to those interfaces of the config that do not carry it yet; returns their names.
    ///
    /// # Errors
    /// One of them cannot carry it; then none was added.
    pub fn add_interfaces(&self, gate: &Gate) -> Result<Vec<String>> {
        let mut standing = self.interfaces.lock().unwrap_or_else(PoisonError::into_inner);
        let mut added: Vec<(String, String)> = Vec::new();
        for interface in &gate.interfaces {
            let known = standing.iter().any(|(name, _)| name == interface);
            // An interface that went and came back has lost its program.
            if known && attach::carries_program(interface) {
                continue;
            }
            match attach::front_more(interface, gate) {
                Ok(mode) => added.push((interface.clone(), mode.to_owned())),
                Err(error) => {
                    let before: Vec<String> = standing.iter().map(|(name, _)| name.clone()).collect();
                    attach::drop_links_but(&gate.pins, &before).context("detaching again")?;
                    return Err(error);
                }
            }
        }
        let names: Vec<String> = added.iter().map(|(name, _)| name.clone()).collect();
        standing.retain(|(name, _)| !names.contains(name));
        standing.extend(added);
        Ok(names)
    }

    /// Lets go of interfaces: of `names`, or of all that the config does not name.
    ///
    /// # Errors
    /// A pin cannot be removed.
    pub fn drop_interfaces(&self, gate: &Gate, names: Option<&[String]>) -> Result<()> {
        let mut standing = self.interfaces.lock().unwrap_or_else(PoisonError::into_inner);
        standing.retain(|(name, _)| match names {
            Some(names) => !names.contains(name),
            None => gate.interfaces.contains(name),
        });
        let kept: Vec<String> = standing.iter().map(|(name, _)| name.clone()).collect();
        attach::drop_links_but(&gate.pins, &kept).context("detaching interfaces")
    }
}
