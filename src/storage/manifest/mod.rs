//! The manifest: a log of edits that says which files make up the store.
