//! Which tables to merge (picker), and how (merge): pure functions over tables.
