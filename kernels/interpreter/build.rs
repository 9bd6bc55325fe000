//! Compiles every kernel as C++, beside the interpreter that runs it.
//!
//! A kernel's file is included in an unnamed namespace, so that no two files can meet in the linker, and followed by a
//! function for each entry that takes the driver's array of arguments. An object is kept until its file, a header or the
//! compiler's options change.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{env, fs};

/// What marks an entry in a kernel's text.
const ENTRY: &str = "extern \"C\" __global__";

fn main() {
    let own = PathBuf::from(env::var("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let out = PathBuf::from(env::var("OUT_DIR").expect("cargo sets it"));
    let kernels = own.parent().expect("this package lies in that of the kernels").to_owned();
    let headers =
        [files(&kernels.join("include"), "cuh"), files(&kernels.join("src"), "cuh"), files(&own.join("cpp"), "hpp")];
    let headers: Vec<PathBuf> = headers.into_iter().flatten().collect();

    let mut units = Vec::new();
    let mut entries: BTreeMap<String, (PathBuf, bool)> = BTreeMap::new();
    for (folder, shipped) in [(kernels.join("src"), true), (own.join("tests/kernels"), false)] {
        for path in files(&folder, "cu") {
            let text = read(&path);
            refuse(&path, &text);
            let names = names(&path, &text);
            for name in &names {
                if let Some((other, _)) = entries.insert(name.clone(), (path.clone(), shipped)) {
                    panic!("the kernel {name} is in {} and in {}", other.display(), path.display());
                }
            }
            let name = path.strip_prefix(&kernels).unwrap_or(&path).display().to_string().replace(['/', '.'], "_");
            units.push(write(&out.join(format!("{name}.cpp")), &unit(&path, &names)));
        }
    }
    units.push(write(&out.join("entries.cpp"), &table(&entries)));
    units.extend(files(&own.join("cpp"), "cpp"));

    // Cargo looks into folders for files that are new.
    for path in [&own.join("cpp"), &own.join("tests/kernels"), &kernels.join("src"), &kernels.join("include")] {
        println!("cargo:rerun-if-changed={}", path.display());
    }
    let build = compiler(&kernels, &own);
    let options = build.get_compiler();
    let mut common = DefaultHasher::new();
    include_str!("build.rs").hash(&mut common);
    options.path().hash(&mut common);
    options.args().hash(&mut common);
    let common = common.finish();
    let watched = !options.args().iter().any(|flag| flag == "-fsanitize=address");
    let key = |unit: &Path| {
        let mut key = DefaultHasher::new();
        common.hash(&mut key);
        for path in sources(unit, &headers) {
            read(&path).hash(&mut key);
        }
        format!("{:016x}", key.finish())
    };
    let jobs = env::var("NUM_JOBS").ok().and_then(|jobs| jobs.parse().ok()).unwrap_or(1);
    let next = AtomicUsize::new(0);
    let mut all = build.clone();
    std::thread::scope(|scope| {
        let work = || {
            let mine = std::iter::from_fn(|| units.get(next.fetch_add(1, Ordering::Relaxed)));
            mine.map(|unit| object(&build, unit, &out, &key(unit), watched)).collect::<Vec<_>>()
        };
        let workers: Vec<_> = (0..jobs).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            all.objects(worker.join().expect("a failure of the compiler ends the script"));
        }
    });
    all.compile("galatea_interpreted_kernels");
}

/// A file and every header of ours that it includes, by whatever way.
fn sources(unit: &Path, headers: &[PathBuf]) -> Vec<PathBuf> {
    let mut found = vec![unit.to_owned()];
    let mut at = 0;
    while at < found.len() {
        for line in read(&found[at]).lines() {
            let Some(name) = line.trim().strip_prefix("#include \"").and_then(|rest| rest.split('"').next()) else {
                continue;
            };
            let name = Path::new(name);
            let known = || headers.iter().filter(|header| header.file_name() == name.file_name()).cloned();
            let included: Vec<PathBuf> = if name.is_absolute() { vec![name.to_owned()] } else { known().collect() };
            found.extend(included.into_iter().filter(|path| !found.contains(path)).collect::<Vec<_>>());
        }
        at += 1;
    }
    found
}

/// The compiler with its options. `CXXFLAGS` and `CXX` are honoured, so a sanitizer is one variable away.
fn compiler(kernels: &Path, own: &Path) -> cc::Build {
    let mut build = cc::Build::new();
    build.cpp(true).std("c++17").opt_level(2).debug(false).warnings(false).force_frame_pointer(false);
    // Kernels read bf16 as words and words as bf16, exceptions cross no fiber, and messages name files from the root.
    build.flag("-fno-strict-aliasing").flag("-fno-exceptions").flag("-fno-rtti").flag("-g1");
    build.flag("-ffp-contract=off").flag("-Wno-psabi");
    if let Some(root) = kernels.parent() {
        build.flag(format!("-ffile-prefix-map={}/=", root.display()));
    }
    build.include(kernels.join("include")).include(own.join("cpp"));
    build
}

/// The object of a file, compiled unless one with the same key is there.
fn object(build: &cc::Build, unit: &Path, out: &Path, key: &str, watched: bool) -> PathBuf {
    let name = unit.file_stem().and_then(|name| name.to_str()).expect("a name in UTF-8");
    let (object, stamp) = (out.join(format!("{name}.kept.o")), out.join(format!("{name}.key")));
    if object.is_file() && fs::read_to_string(&stamp).is_ok_and(|kept| kept == key) {
        return object;
    }
    let mut build = build.clone();
    if is_kernel(unit) {
        build.flag("-fsanitize=alignment,bounds,integer-divide-by-zero");
        // The compiler announces every access: to cpp/hooks.cpp, which looks for races.
        if watched {
            build.flag("-fsanitize=thread");
        }
    } else if name == "tensor_cores" {
        build.opt_level(3);
    }
    let made = build.file(unit).compile_intermediates();
    fs::rename(&made[0], &object).expect("both lie in OUT_DIR");
    fs::write(&stamp, key).expect("OUT_DIR can be written");
    object
}

fn is_kernel(unit: &Path) -> bool {
    read(unit).starts_with("// of ")
}

/// What the interpreter cannot run is said here rather than by the compiler, far from its cause.
fn refuse(path: &Path, text: &str) {
    for (i, line) in text.lines().enumerate() {
        let code = line.split("//").next().unwrap_or_default();
        for (word, instead) in [
            ("__shared__", "DYN_SHARED or STATIC_SHARED of base.cuh"),
            ("asm", "a function of kernels/include with a twin in kernels/interpreter/cpp"),
        ] {
            let whole = code.split(|c: char| !(c.is_alphanumeric() || c == '_')).any(|found| found == word);
            assert!(!whole, "{}:{}: {word} in a kernel; use {instead}", path.display(), i + 1);
        }
    }
}

/// The names of a file's entries: the word before the first parenthesis that is no attribute's.
fn names(path: &Path, text: &str) -> Vec<String> {
    let found = text.match_indices(ENTRY).map(|(at, _)| {
        let mut head = &text[at + ENTRY.len()..];
        let attribute = "__launch_bounds__";
        if let Some(after) =
            head.trim_start().strip_prefix("void").map(str::trim_start).unwrap_or(head).strip_prefix(attribute)
        {
            head = after.split_once(')').map_or(after, |(_, rest)| rest);
        } else if let Some(after) = head.trim_start().strip_prefix(attribute) {
            head = after.split_once(')').map_or(after, |(_, rest)| rest);
        }
        let name = head.split('(').next().unwrap_or_default().trim_end();
        let name = name.rsplit(|c: char| !(c.is_alphanumeric() || c == '_')).next().unwrap_or_default();
        assert!(!name.is_empty(), "{}: `{ENTRY}` without a name", path.display());
        name.to_owned()
    });
    found.collect()
}

/// The file that is compiled for a kernel's.
fn unit(path: &Path, names: &[String]) -> String {
    let path = path.display();
    let mut text = format!(
        "// of {path}\n#define INTERPRETED 1\n#include \"interpreted.hpp\"\n#include \"interpreted_ampere.hpp\"\n\
         #include \"interpreted_hopper.hpp\"\n#include \"launch.hpp\"\nnamespace {{\n#include \"{path}\"\n}}\n"
    );
    for name in names {
        let _ = writeln!(
            text,
            "extern \"C\" const interpreter::Entry galatea_entry_{name} = {{\"{name}\", interpreter::Thunk<{name}>::body, \
             interpreter::Thunk<{name}>::kSizes, interpreter::Thunk<{name}>::kCount}};"
        );
    }
    text
}

/// All entries, by name; those of the package before those of the interpreter's own tests.
fn table(entries: &BTreeMap<String, (PathBuf, bool)>) -> String {
    let mut text = "#include \"launch.hpp\"\nextern \"C\" {\n".to_owned();
    for name in entries.keys() {
        let _ = writeln!(text, "extern const interpreter::Entry galatea_entry_{name};");
    }
    text += "}\nnamespace interpreter {\nextern const Entry* const entries[];\nconst Entry* const entries[] = {\n";
    for shipped in [true, false] {
        for (name, _) in entries.iter().filter(|(_, (_, from))| *from == shipped) {
            let _ = writeln!(text, "    &galatea_entry_{name},");
        }
    }
    let shipped = entries.values().filter(|(_, shipped)| *shipped).count();
    let _ = write!(
        text,
        "    nullptr}};\nextern const size_t entry_count, shipped_count;\nconst size_t entry_count = {}, shipped_count = \
         {shipped};\n}}\n",
        entries.len()
    );
    text
}

/// Every file under `folder` with that extension, in order.
fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry of a folder").path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            found.extend(files(&path, extension));
        } else if path.extension().is_some_and(|found| found == extension) {
            found.push(path);
        }
    }
    found
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Writes only what is new, so that nothing is compiled for the sake of a date.
fn write(path: &Path, text: &str) -> PathBuf {
    if fs::read_to_string(path).map_or(true, |old| old != text) {
        fs::write(path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
    path.to_owned()
}
