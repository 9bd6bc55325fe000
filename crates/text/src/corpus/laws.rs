//! What holds from the file to the rows.

use std::collections::HashSet;
use std::path::PathBuf;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::tokenizer::{Bytes, Chars, Tokenizer};

fn file(name: &str, content: impl AsRef<[u8]>) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join(name);
    fs::write(&path, content).expect("write");
    (folder, path)
}

fn read(name: &str, content: impl AsRef<[u8]>, format: Option<Format>) -> Result<Vec<String>, Error> {
    let (_folder, path) = file(name, content);
    let corpus = Corpus::open(&path)?;
    let format = format.unwrap_or_else(|| corpus.format().clone());
    corpus.with_format(format).documents()?.collect()
}

fn message(name: &str, content: impl AsRef<[u8]>, format: Option<Format>) -> String {
    read(name, content, format).expect_err(name).to_string()
}

fn encode<S: AsRef<str>>(documents: &[S]) -> Encoded {
    Encoded::read(documents.iter().map(|text| Ok(text.as_ref().to_owned())), &Bytes).expect("bytes take any text")
}

#[test]
fn a_document_is_a_line_a_paragraph_or_the_file() {
    let text = "\u{feff}a b\r\nc\n \n\n\nd\n  e\n";
    let documents = |unit| read("t.txt", text, Some(Format::Text(unit))).expect("three documents");
    assert_eq!(documents(Unit::Line), ["a b", "c", "d", "  e"]);
    assert_eq!(documents(Unit::Paragraph), ["a b\nc", "d\n  e"]);
    assert_eq!(documents(Unit::File), ["a b\r\nc\n \n\n\nd\n  e\n"]);
    assert_eq!(read("no-extension", "x", None).expect("text"), ["x"]);
}

#[test]
fn jsonl_is_known_by_its_extension_and_its_field_can_be_named() {
    let lines = "{\"text\": \"a\\nb\", \"n\": 1}\n\n{\"text\": \"\"}\r\n{\"text\": \"c\", \"code\": \"d\"}";
    for name in ["t.jsonl", "t.ndjson", "t.JSONL", "t.json"] {
        assert_eq!(read(name, lines, None).expect("objects"), ["a\nb", "c"]);
    }
    let lines = "{\"text\": \"a\", \"code\": \"b\"}\n";
    assert_eq!(read("t", lines, Some(Format::Jsonl("code".into()))).expect("objects"), ["b"]);
}

#[test]
fn a_file_that_cannot_be_read_says_why_and_what_to_do() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let missing = Corpus::open(folder.path().join("no.txt")).expect_err("missing").to_string();
    assert!(missing.starts_with("no file at `") && missing.contains("no.txt`: check the spelling"), "{missing}");
    let directory = Corpus::open(folder.path()).expect_err("a folder").to_string();
    assert!(directory.contains("is a folder, expected one text or jsonl file"), "{directory}");

    for (content, format) in [("", None), ("\n \n\n", None), (" \n", Some(Format::Text(Unit::File)))] {
        let empty = message("t.txt", content, format);
        assert!(empty.contains("t.txt` holds no text"), "{empty}");
    }
    assert!(message("t.jsonl", "{\"text\": \"\"}\n", None).contains("holds no text"));

    let binary = message("t.txt", b"abc\nd\xc3\xa9\xff\x00", None);
    assert!(binary.contains("not UTF-8 text at byte 7: is this a binary or compressed file?"), "{binary}");
}

#[test]
fn a_bad_line_of_jsonl_is_named() {
    let good = "{\"text\": \"a\"}\n";
    for (line, part) in [
        (
            "{\"text\": \"a\"",
            "line 3: not JSON at column 12; expected one JSON object a line, as in {\"text\": \"...\"}",
        ),
        ("[{\"text\": \"a\"}]", "line 3: found an array"),
        ("\"a\"", "line 3: found a single value"),
        (
            "{\"body\": \"a\", \"n\": 1, \"title\": \"b\"}",
            "line 3: no text in a field `text`; the text fields there are: body, title;",
        ),
        ("{\"text\": 5}", "line 3: no text in a field `text`; the text fields there are: none;"),
    ] {
        let found = message("t.jsonl", format!("{good}\n{line}\n{good}"), None);
        assert!(found.contains(part), "{found}");
    }
}

#[test]
fn documents_end_after_an_error() {
    let lines = "{\"text\": \"a\"}\nno\n{\"text\": \"b\"}\n";
    let mut documents = Documents::new(lines.as_bytes(), "t", Format::Jsonl("text".into()));
    assert!(documents.next().is_some_and(|document| document.is_ok()));
    assert!(documents.next().is_some_and(|document| document.is_err()));
    assert!(documents.next().is_none());
}

/// A source without an end gives its first documents: nothing reads ahead of what is asked for.
#[test]
fn documents_are_read_as_they_are_asked_for() {
    struct Endless;
    impl std::io::Read for Endless {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            buffer.iter_mut().zip(b"ab\n\n".iter().cycle()).for_each(|(place, &byte)| *place = byte);
            Ok(buffer.len() / 4 * 4)
        }
    }
    for unit in [Unit::Line, Unit::Paragraph] {
        let documents = Documents::new(BufReader::with_capacity(64, Endless), "endless", Format::Text(unit));
        assert!(documents.take(1000).all(|document| document.is_ok_and(|text| text == "ab")));
    }
}

#[test]
fn what_cannot_be_encoded_names_the_document() {
    let chars = Chars::new("abc".chars()).expect("characters");
    let error = Encoded::read(["abc", "ab\tc"].map(|text| Ok(text.to_owned())), &chars).expect_err("a tab");
    let start = "document 2: `\\t` at byte 2 is not in the vocabulary of 5 tokens";
    assert!(error.to_string().starts_with(start), "{error}");
}

#[test]
fn what_is_too_short_says_how_much_is_needed() {
    let encoded = encode(&["abcd", "efg"]);
    let error = encoded.rows(Layout::Packed, 10).expect_err("9 tokens").to_string();
    assert!(
        error.starts_with("the text has 9 tokens, fewer than one row of 10: use a text of at least about 10"),
        "{error}"
    );
    assert!(encoded.rows(Layout::Packed, 9).is_ok());
    let documents: Vec<String> = (0..20).map(|n| format!("document {n:04}")).collect();
    let encoded = encode(&documents);
    let error = encoded.split_rows(Layout::Packed, 64, 0.1, 0).expect_err("two short documents").to_string();
    assert!(error.starts_with("the validation part has 28 tokens, fewer than one row of 64"), "{error}");
    assert!(error.contains("at least about 640 tokens (this one has 260)"), "{error}");
    for bad in [0.0, 1.0, -1.0, f64::NAN] {
        assert!(matches!(encoded.split(bad, 0), Err(Error::Setting { .. })));
    }
    assert!(matches!(encoded.rows(Layout::Padded, 0), Err(Error::Setting { .. })));
    assert!(matches!(encode(&["same", "same"]).split(0.5, 0), Err(Error::Indivisible { documents: 2 })));
    assert!(matches!(encode(&["a"]).split(0.5, 0), Err(Error::TooShort { .. })));
    assert!(matches!(Encoded::read([], &Bytes), Err(Error::TooShort { .. })));
}

#[test]
fn padded_rows_cut_end_and_fill() {
    let rows = encode(&["ab", "abcdef", "abcd"]).rows(Layout::Padded, 4).expect("rows");
    assert_eq!(rows.tokens(), [97, 98, 256, 256, 97, 98, 99, 100, 97, 98, 99, 100]);
    assert_eq!(rows.lengths(), [2, 4, 4]);
    assert_eq!(rows.view().dim(), (3, 4));
    let mut batch = [0; 8];
    rows.fill([2, 0], &mut batch);
    assert_eq!(batch, [97, 98, 99, 100, 97, 98, 256, 256]);
}

#[test]
fn a_pair_is_a_row_whose_prompt_is_known() -> Result<(), Error> {
    let pairs = [("ab", "cd"), ("", "x"), ("q", "longer than a row"), ("abcd", "")];
    let objects: String =
        pairs.iter().map(|(p, a)| format!("{{\"q\": \"{p}\", \"a\": \"{a}\", \"n\": 1}}\n\n")).collect();
    let lines: String = pairs.iter().map(|(p, a)| format!("{p}\t{a}\n")).collect();
    let (_folder, objects) = file("t.jsonl", objects);
    let (_folder_too, lines) = file("t.tsv", lines);
    let of_objects = Corpus::open(&objects)?.with_format(Format::Jsonl("a".into())).pairs("q")?;
    let of_lines = Corpus::open(&lines)?.pairs("unused")?;
    let found = of_objects.collect::<Result<Vec<_>, _>>()?;
    assert_eq!(found, of_lines.collect::<Result<Vec<_>, _>>()?);
    assert_eq!(found, pairs.map(|(p, a)| Pair { prompt: p.to_owned(), answer: a.to_owned() }));
    let encoded = Encoded::read_pairs(found.into_iter().map(Ok), &Bytes)?;
    let rows = encoded.rows(Layout::Padded, 6)?;
    assert_eq!((0..4).map(|row| rows.prompt(row)).collect::<Vec<_>>(), [2, 0, 1, 4]);
    let end = Bytes.eos();
    assert_eq!(rows.row(0), [97, 98, 99, 100, end, end]);
    assert_eq!((rows.row(2), rows.row(3)), (&b"qlonge".map(u32::from)[..], &[97, 98, 99, 100, end, end][..]));
    let error = encoded.rows(Layout::Padded, 4).expect_err("no room").to_string();
    assert!(error.starts_with("pair 4: its prompt has 4 tokens") && error.contains("rows of 4"), "{error}");

    // A split keeps pairs whole and their prompts with them.
    let (train, validation) = encoded.split_rows(Layout::Padded, 6, 0.3, 1)?;
    let prompts = |rows: &Dataset| (0..rows.rows()).map(|row| rows.prompt(row)).collect::<Vec<_>>();
    let mut all = [prompts(&train), prompts(&validation)].concat();
    all.sort_unstable();
    assert_eq!(all, [0, 1, 2, 4]);
    let one = Encoded::read_pairs([Ok(Pair { prompt: "a".into(), answer: "bcd".into() })], &Bytes)?;
    assert!(matches!(one.split(0.5, 0), Err(Error::Indivisible { documents: 1 })));
    let no_tab = Pairs::new("a\tb\n\nc\n".as_bytes(), "t.tsv", None).collect::<Result<Vec<_>, _>>();
    assert_eq!(
        no_tab.expect_err("a line without").to_string(),
        "`t.tsv` line 3: no tab; expected a prompt, a tab and an answer"
    );
    Ok(())
}

#[test]
fn a_single_document_is_cut_in_two() {
    let text = "0123456789".repeat(10);
    let (train, validation) = encode(&[&text]).split(0.1, 3).expect("two parts");
    assert_eq!((train.tokens().len(), validation.tokens().len()), (90, 10));
    assert_eq!((train.characters(), validation.bytes()), (90, 10));
    assert_eq!([train.tokens(), validation.tokens()].concat(), encode(&[&text]).tokens());
}

#[test]
fn a_summary_counts() {
    let encoded = encode(&["né", "abc", "abcdefgh"]);
    let packed = encoded.inspect(Layout::Packed, 4).expect("a summary");
    assert_eq!((packed.documents, packed.tokens, packed.characters, packed.bytes), (3, 14, 13, 14));
    assert_eq!((packed.vocab, packed.distinct, packed.rows, packed.cut_tokens), (258, 11, 5, 0));
    assert_eq!(packed.rows, encoded.rows(Layout::Packed, 4).expect("rows").rows());
    let padded = encoded.inspect(Layout::Padded, 4).expect("a summary");
    assert_eq!((padded.rows, padded.cut_documents, padded.cut_tokens), (3, 1, 4));
    let Lengths { min, median, max, mean, .. } = padded.lengths;
    assert_eq!((min, median, max), (3, 3, 8));
    assert!((mean - 14.0 / 3.0).abs() < 1e-12);
    assert!((padded.characters_per_token() - 13.0 / 14.0).abs() < 1e-12);
    assert!(padded.to_string().contains("cut          4 tokens of 1 documents"));
}

#[test]
fn percentiles_are_of_nearest_rank() {
    let lengths: Vec<usize> = (1..=200).collect();
    let found = Lengths::of_sorted(&lengths);
    assert_eq!((found.min, found.p10, found.median, found.p90, found.p99, found.max), (1, 20, 100, 180, 198, 200));
}

#[test]
fn fingerprints_of_data_follow_tokens_and_length() {
    let print = |text: &str, len| encode(&[text]).rows(Layout::Packed, len).expect("rows").fingerprint();
    assert_eq!(print("abcdefg", 4), print("abcdefg", 4));
    assert_ne!(print("abcdefg", 4), print("abcdefg", 8));
    assert_ne!(print("abcdefg", 4), print("abcdefh", 4));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn packing_loses_no_token(documents in prop::collection::vec("[a-z]{1,30}", 1..30), len in 1..16usize) {
        let encoded = encode(&documents);
        let Ok(rows) = encoded.rows(Layout::Packed, len) else {
            prop_assert!(encoded.tokens().len() + documents.len() < len);
            return Ok(());
        };
        let stream: Vec<u32> = documents.iter().flat_map(|text| text.bytes().map(u32::from).chain([Bytes.eos()])).collect();
        prop_assert_eq!(&rows.tokens()[..stream.len()], &stream[..]);
        prop_assert!(rows.tokens()[stream.len()..].iter().all(|&id| id == Bytes.pad()));
        prop_assert!(rows.tokens().len() - stream.len() < len);
        prop_assert_eq!(rows.lengths().iter().sum::<u32>() as usize, stream.len());
        prop_assert!(rows.lengths().iter().all(|&length| length > 0));
    }

    #[test]
    fn a_split_loses_nothing_leaks_nothing_and_repeats(documents in prop::collection::vec("[a-d]{1,3}", 2..60), fraction in 0.01..0.99, seed: u64) {
        let encoded = encode(&documents);
        let distinct: HashSet<&String> = documents.iter().collect();
        if distinct.len() == 1 {
            prop_assert!(encoded.split(fraction, seed).is_err());
            return Ok(());
        }
        let (train, validation) = encoded.split(fraction, seed)?;
        let texts = |part: &Encoded| part.iter().map(|ids| Bytes.decode(ids)).collect::<Result<Vec<_>, _>>();
        let (in_train, in_validation) = (texts(&train)?, texts(&validation)?);
        prop_assert!(!in_train.is_empty() && !in_validation.is_empty());
        prop_assert!(in_train.iter().all(|text| !in_validation.contains(text)));
        let mut together = [in_train, in_validation.clone()].concat();
        let mut all = documents.clone();
        together.sort();
        all.sort();
        prop_assert_eq!(&together, &all);
        prop_assert_eq!(train.bytes() + validation.bytes(), encoded.bytes());

        // The same documents in another order have the same sides.
        let (_, again) = encode(&all).split(fraction, seed)?;
        let (mut again, mut before) = (texts(&again)?, in_validation);
        again.sort();
        before.sort();
        prop_assert_eq!(again, before);
    }
}

/// With many documents the parts have the sizes asked for, and another seed another content.
#[test]
fn a_split_has_its_share() {
    let documents: Vec<String> = (0..2000).map(|n| format!("{n:06}")).collect();
    let encoded = encode(&documents);
    for fraction in [0.01, 0.1, 0.5, 0.9] {
        let (_, validation) = encoded.split(fraction, 5).expect("two parts");
        let share = validation.documents() as f64 / 2000.0;
        assert!((share - fraction).abs() < 0.002, "{share} for {fraction}");
    }
    assert_ne!(encoded.split(0.1, 1).expect("parts"), encoded.split(0.1, 2).expect("parts"));
}
