//! Keeps the functions of hnsw_rs out of the dynamic library's interface.
//!
//! hnsw_rs has its own C interface: dozens of `#[no_mangle]` functions with names such as
//! `insert_f32` and `init_rust_log`. rustc exports such functions of every linked crate. It lists
//! them in the version script, and neither GNU ld nor lld accepts a second one. If another library
//! in the process has the same name, ELF binds both to whichever was loaded first.
//!
//! If several object files mention a symbol, ELF uses the most constraining visibility among them.
//! A hidden symbol is local to the library regardless of the version script. This crate therefore
//! mentions each symbol as hidden. The mention is weak: it requires no definition, so a name that
//! hnsw_rs drops does no harm. `tests/exports.rs` fails if a new one is missing here.
//!
//! Mach-O and PE do not need this: they look up a name together with its library, so equal names in
//! two libraries do not clash.

#![cfg(any(
    target_os = "linux",
    target_os = "android",
    target_os = "freebsd",
    target_os = "netbsd",
    target_os = "openbsd",
    target_os = "dragonfly"
))]

macro_rules! hide {
    ($($name:literal,)*) => {
        // SAFETY: emits no code and no data, only two attributes of symbols that nothing here
        // refers to.
        #[allow(unsafe_code)]
        mod symbols {
            $(std::arch::global_asm!(concat!(".weak ", $name), concat!(".hidden ", $name));)*
        }
    };
}

hide! {
    // In alphabetical order, as `nm -D` prints them.
    "drop_hnsw_f32",
    "drop_hnsw_u16",
    "file_dump_f32",
    "file_dump_i32",
    "file_dump_u16",
    "file_dump_u32",
    "file_dump_u8",
    "get_hnswio",
    "init_hnsw_f32",
    "init_hnsw_i32",
    "init_hnsw_ptrdist_f32",
    "init_hnsw_ptrdist_i32",
    "init_hnsw_ptrdist_u16",
    "init_hnsw_ptrdist_u32",
    "init_hnsw_ptrdist_u8",
    "init_hnsw_u16",
    "init_hnsw_u32",
    "init_hnsw_u8",
    "init_rust_log",
    "insert_f32",
    "insert_i32",
    "insert_u16",
    "insert_u32",
    "insert_u8",
    "load_hnsw_description",
    "load_hnswdump_NoData_DistNoDist",
    "load_hnswdump_f32_DistCosine",
    "load_hnswdump_f32_DistDot",
    "load_hnswdump_f32_DistJeffreys",
    "load_hnswdump_f32_DistJensenShannon",
    "load_hnswdump_f32_DistL1",
    "load_hnswdump_f32_DistL2",
    "load_hnswdump_i32_DistHamming",
    "load_hnswdump_i32_DistL1",
    "load_hnswdump_i32_DistL2",
    "load_hnswdump_u16_DistHamming",
    "load_hnswdump_u16_DistL1",
    "load_hnswdump_u16_DistL2",
    "load_hnswdump_u16_DistLevenshtein",
    "load_hnswdump_u32_DistHamming",
    "load_hnswdump_u32_DistJaccard",
    "load_hnswdump_u32_DistL1",
    "load_hnswdump_u32_DistL2",
    "load_hnswdump_u8_DistHamming",
    "load_hnswdump_u8_DistJaccard",
    "load_hnswdump_u8_DistL1",
    "load_hnswdump_u8_DistL2",
    "new_hnsw_f32",
    "new_hnsw_u16",
    "parallel_insert_f32",
    "parallel_insert_i32",
    "parallel_insert_u16",
    "parallel_insert_u32",
    "parallel_insert_u8",
    "parallel_search_neighbours_f32",
    "parallel_search_neighbours_i32",
    "parallel_search_neighbours_u16",
    "parallel_search_neighbours_u32",
    "parallel_search_neighbours_u8",
    "search_neighbours_f32",
    "search_neighbours_i32",
    "search_neighbours_u16",
    "search_neighbours_u32",
    "search_neighbours_u8",
}
