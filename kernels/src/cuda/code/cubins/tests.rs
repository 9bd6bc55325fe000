use super::super::image::tests::elf;
use super::*;
use std::sync::atomic::AtomicBool;

/// A compiler that counts: its image has the number of the compilation in its registers.
#[derive(Default)]
struct Counting {
    calls: AtomicUsize,
    version: u32,
    missing: bool,
}

impl Compiler for Counting {
    fn version(&self) -> Result<String, CompileError> {
        if self.missing { Err(CompileError::Missing) } else { Ok(format!("counting {}", self.version)) }
    }

    fn compile(&self, source: &Source, arch: Arch) -> Result<Compiled, CompileError> {
        let call = self.calls.fetch_add(1, Ordering::Relaxed) as u32 + 1;
        Ok(Compiled { image: elf(source.name, 8, arch.number() << 8, call), log: format!("call {call}") })
    }
}

const SUM: Source = Source { name: "sum", text: "__global__ void sum() {}", archs: &Arch::ALL };

/// A folder of this test alone, removed at its end.
struct Folder(PathBuf);

impl Folder {
    fn new(test: &str) -> Self {
        let path = env::temp_dir().join(format!("galatea-cubins-{test}-{}", process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("a folder for temporary files");
        Self(path)
    }

    fn files(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(&self.0).expect("the test's folder");
        entries.map(|entry| entry.expect("an entry").path()).collect()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn caching(folder: &Folder) -> Cubins<Counting> {
    Cubins::new(None, Some(folder.0.clone()), Counting::default())
}

#[test]
fn what_was_compiled_once_is_read_from_then_on() {
    let folder = Folder::new("once");
    let cubins = caching(&folder);
    let first = cubins.get(&SUM, Arch::Sm80).expect("compiled");
    assert_eq!((first.origin, first.notes), (Origin::Compiled, vec![]));
    let again = cubins.get(&SUM, Arch::Sm80).expect("cached");
    assert_eq!(again.origin, Origin::Cache(folder.files()[0].clone()));
    assert_eq!((again.image, again.log), (first.image, first.log));
    assert_eq!(cubins.compiler.calls.load(Ordering::Relaxed), 1);
}

#[test]
fn another_text_name_architecture_or_compiler_is_another_file() {
    let folder = Folder::new("keys");
    let other_text = Source { text: "__global__ void sum() { }", ..SUM };
    let other_name = Source { name: "sums", ..SUM };
    let newer = Cubins::new(None, Some(folder.0.clone()), Counting { version: 1, ..Counting::default() });
    let wanted = [(&SUM, Arch::Sm80), (&other_text, Arch::Sm80), (&other_name, Arch::Sm80), (&SUM, Arch::Sm90a)];
    let all = caching(&folder).get_all(&wanted, 2);
    assert!(all.iter().all(|cubin| cubin.as_ref().is_ok_and(|cubin| cubin.origin == Origin::Compiled)));
    assert_eq!(newer.get(&SUM, Arch::Sm80).map(|cubin| cubin.origin), Ok(Origin::Compiled));
    assert_eq!(folder.files().len(), 5);
}

#[test]
fn a_header_is_part_of_the_recipe() {
    for (name, text) in crate::cuda::HEADERS {
        let include = format!("#include \"{name}\"\n");
        let source = Source { name: "x", text: include.leak(), archs: &Arch::ALL };
        assert!(recipe(&source, Arch::Sm80).contains(text), "{name}");
    }
}

#[test]
fn a_broken_file_of_the_cache_is_replaced_and_told() {
    let folder = Folder::new("broken");
    let cubins = caching(&folder);
    cubins.get(&SUM, Arch::Sm80).expect("compiled");
    let path = folder.files()[0].clone();
    let whole = fs::read(&path).expect("the entry");
    let mut flipped = whole.clone();
    flipped[70] ^= 1;
    for (bytes, damage) in
        [(&whole[..whole.len() / 2], Damage::End), (&whole[..0], Damage::End), (&flipped[..], Damage::Checksum)]
    {
        fs::write(&path, bytes).expect("the test's own folder");
        let cubin = cubins.get(&SUM, Arch::Sm80).expect("compiled again");
        assert_eq!(cubin.notes, [Note::Damaged { path: path.clone(), damage }]);
        assert_eq!(cubin.origin, Origin::Compiled);
        let healed = cubins.get(&SUM, Arch::Sm80).expect("cached");
        assert_eq!((healed.origin, healed.image), (Origin::Cache(path.clone()), cubin.image));
    }
    assert_eq!(cubins.compiler.calls.load(Ordering::Relaxed), 4);
}

#[test]
fn two_kernels_under_one_name_are_not_mistaken() {
    let folder = Folder::new("collision");
    let cubins = caching(&folder);
    cubins.get(&SUM, Arch::Sm80).expect("compiled");
    let path = folder.files()[0].clone();
    // As if the hash of another kernel were the same: a sound entry, of another recipe or for another processor.
    for (recipe, arch) in [("another", Arch::Sm80), (&recipe(&SUM, Arch::Sm80), Arch::Sm90a)] {
        let image = elf("other", 8, arch.number() << 8, 9);
        let entry = Entry { image, recipe: recipe.into(), compiler: "counting 0".into(), log: String::new() };
        fs::write(&path, entry.to_bytes()).expect("the test's own folder");
        let cubin = cubins.get(&SUM, Arch::Sm80).expect("compiled");
        assert_eq!((cubin.origin, cubin.notes), (Origin::Compiled, vec![Note::Other { path: path.clone() }]));
    }
}

#[test]
fn readers_and_writers_at_once_see_whole_files_only() {
    let folder = Folder::new("crowd");
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let path = folder.0.join("one.cubin");
        let entry =
            |byte| Entry { image: vec![byte; 4096], recipe: String::new(), compiler: "c".into(), log: "l".into() };
        write(&path, &entry(0).to_bytes()).expect("written");
        for byte in 1..4 {
            let (path, bytes, stop) = (path.clone(), entry(byte).to_bytes(), &stop);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    write(&path, &bytes).expect("written");
                }
            });
        }
        for _ in 0..500 {
            let read = fs::read(&path).expect("the file is never absent");
            let entry = Entry::from_bytes(&read);
            if entry.is_err() {
                stop.store(true, Ordering::Relaxed);
            }
            let image = entry.expect("a whole file").image;
            assert!(image.iter().all(|byte| *byte == image[0]));
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(folder.files().len(), 1, "no temporary file stays");
}

#[test]
fn many_processes_first_runs_agree() {
    let folder = Folder::new("first");
    let images: Vec<Cubin> = thread::scope(|scope| {
        let runs: Vec<_> = (0..4).map(|_| scope.spawn(|| caching(&folder).get(&SUM, Arch::Sm80))).collect();
        runs.into_iter().map(|run| run.join().expect("no panic").expect("an image")).collect()
    });
    assert!(images.iter().all(|cubin| cubin.image == images[0].image && cubin.notes.is_empty()));
    assert_eq!(folder.files().len(), 1);
}

#[test]
fn a_cache_that_cannot_be_written_costs_a_note() {
    let folder = Folder::new("unwritable");
    let file = folder.0.join("a-file");
    fs::write(&file, "").expect("the test's own folder");
    // A folder inside a file can be made by no one, not even by the superuser that tests may run as.
    let cubins = Cubins::new(None, Some(file.join("cache")), Counting::default());
    let cubin = cubins.get(&SUM, Arch::Sm80).expect("compiled all the same");
    assert_eq!(cubin.origin, Origin::Compiled);
    assert!(matches!(cubin.notes[..], [Note::Unreadable { .. }, Note::Unwritable { .. }]), "{:?}", cubin.notes);
    let nowhere = Cubins::new(None, None, Counting::default()).get(&SUM, Arch::Sm80).expect("compiled");
    assert_eq!(nowhere.notes, [Note::NoCache]);
}

#[test]
fn a_folder_of_kernels_needs_no_compiler() {
    let folder = Folder::new("ahead");
    let path = Cubins::new(None, None, Counting::default()).build(&SUM, Arch::Sm90a, &folder.0).expect("built");
    assert_eq!(path, folder.0.join("sum.sm_90a.cubin"));
    let without = Cubins::new(Some(folder.0.clone()), None, Counting { missing: true, ..Counting::default() });
    let cubin = without.get(&SUM, Arch::Sm90a).expect("from the folder");
    assert_eq!((cubin.origin, cubin.log.as_str()), (Origin::Ahead(path), "call 1"));
    // What the folder has not is compiled, where there is a compiler.
    assert_eq!(without.get(&SUM, Arch::Sm80), Err(CubinError::Compile(CompileError::Missing)));
    let with = Cubins::new(Some(folder.0.clone()), None, Counting::default());
    assert_eq!(with.get(&SUM, Arch::Sm80).map(|cubin| cubin.origin), Ok(Origin::Compiled));
}

#[test]
fn a_file_in_the_folder_that_does_not_fit_is_an_error_that_says_why() {
    let folder = Folder::new("misfits");
    let (path, cubins) = (folder.0.join("sum.sm_80.cubin"), Cubins::new(None, None, Counting::default()));
    let found = || Cubins::new(Some(folder.0.clone()), None, Counting::default()).get(&SUM, Arch::Sm80);
    let built = cubins.build(&SUM, Arch::Sm90a, &folder.0).expect("built");
    fs::rename(built, &path).expect("the test's own folder");
    assert_eq!(found(), Err(CubinError::WrongArch { path: path.clone(), found: 90, wanted: Arch::Sm80 }));
    assert!(found().expect_err("as above").to_string().ends_with("is machine code for sm_90, and this is a sm_80"));

    cubins.build(&Source { text: "older", ..SUM }, Arch::Sm80, &folder.0).expect("built");
    assert_eq!(found(), Err(CubinError::Stale { path: path.clone(), name: "sum" }));

    fs::write(&path, elf("sum", 8, 0x5000, 1)).expect("the test's own folder");
    assert_eq!(found(), Err(CubinError::Damaged { path: path.clone(), damage: Damage::End }));

    fs::write(&path, "not found").expect("the test's own folder");
    assert!(matches!(found(), Err(CubinError::NotAnImage { .. })));
}
