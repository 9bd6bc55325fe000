//! What holds for every tokenizer.

use std::path::Path;

use proptest::prelude::*;

use super::*;

const TEXT: &str = "The quick brown fox, \"isn't\" it (3.14) quick? The fox jumps over 21 lazy dogs; the dogs: lazy!\n";

fn all() -> Vec<AnyTokenizer> {
    let text = || [Ok(TEXT.repeat(3))];
    vec![
        Bytes.into(),
        Chars::from_documents(text()).expect("characters").into(),
        Words::from_documents(text(), 99, Unknown::Reject).expect("words").into(),
        Words::from_documents(text(), 5, Unknown::Replace).expect("words").into(),
        Bpe::train(text(), 300).expect("merges").into(),
    ]
}

#[test]
fn special_ids_are_the_last_two_and_the_mask_is_the_last() {
    for tokenizer in all() {
        let vocab = tokenizer.vocab_size() as u32;
        assert!(tokenizer.mask_is_last(), "{tokenizer:?}");
        assert_eq!((tokenizer.eos(), tokenizer.pad(), tokenizer.mask()), (vocab - 2, vocab - 2, vocab - 1));
        assert_eq!((tokenizer.id(EOS), tokenizer.id(PAD)), (Some(vocab - 2), Some(vocab - 2)));
        assert_eq!(tokenizer.id(MASK), Some(vocab - 1));
        assert!(tokenizer.is_special(vocab - 1) && tokenizer.is_special(vocab - 2) && !tokenizer.is_special(vocab - 3));
    }
}

#[test]
fn a_token_and_its_id_name_each_other() {
    for tokenizer in all() {
        for id in 0..tokenizer.vocab_size() as u32 {
            let token = tokenizer.token(id).unwrap_or_else(|| panic!("{} has no token {id}", tokenizer.kind()));
            assert_eq!(tokenizer.id(&token), Some(id), "{} `{token}`", tokenizer.kind());
        }
        assert_eq!(tokenizer.token(tokenizer.vocab_size() as u32), None);
        assert_eq!(tokenizer.id("no such token"), None);
    }
}

#[test]
fn text_never_becomes_a_special_id() {
    for tokenizer in all() {
        for text in [MASK, EOS, PAD, "The <eos> fox [MASK] jumps"] {
            if let Ok(ids) = tokenizer.encode(text) {
                assert!(ids.iter().all(|&id| !tokenizer.is_special(id)), "{} {text} {ids:?}", tokenizer.kind());
            }
        }
    }
    let bpe = Bpe::train([Ok(TEXT.to_owned())], 300).expect("merges");
    let again = Bpe::from_json_str(&bpe.to_json().expect("json")).expect("the same");
    assert_eq!(again.decode(&again.encode("a [MASK]<eos>b").expect("bytes")).expect("ids"), "a [MASK]<eos>b");
}

#[test]
fn decoding_leaves_the_end_out_and_shows_the_mask() {
    for tokenizer in all() {
        let mut ids = tokenizer.encode("fox").expect("a known word");
        ids.extend([tokenizer.mask(), tokenizer.eos(), tokenizer.pad()]);
        let text = tokenizer.decode(&ids).expect("known ids");
        assert!(text.ends_with(MASK) && !text.contains(EOS), "{} {text}", tokenizer.kind());
        let beyond = tokenizer.vocab_size() as u32;
        assert!(matches!(tokenizer.decode(&[0, beyond]), Err(Error::UnknownId { id, .. }) if id == beyond));
    }
}

#[test]
fn a_file_gives_the_same_tokenizer_back() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("tokenizer.json");
    for tokenizer in all() {
        tokenizer.save(&path).expect("save");
        let again = AnyTokenizer::load(&path).expect("load");
        assert_eq!((again.kind(), again.fingerprint()), (tokenizer.kind(), tokenizer.fingerprint()));
        assert_eq!(again.encode("quick fox").expect("ids"), tokenizer.encode("quick fox").expect("ids"));
        assert_eq!(again, tokenizer);
    }
    assert_eq!(std::fs::read_dir(folder.path()).expect("list").count(), 1, "no drafts are left");
}

#[test]
fn fingerprints_tell_tokenizers_apart() {
    let mut prints: Vec<u64> = all().iter().map(Tokenizer::fingerprint).collect();
    prints.push(Chars::new("ab".chars()).expect("characters").fingerprint());
    prints.push(Chars::new("abc".chars()).expect("characters").fingerprint());
    prints.push(Words::new(["a", "b"], Unknown::Reject).expect("words").fingerprint());
    prints.push(Words::new(["b", "a"], Unknown::Reject).expect("words").fingerprint());
    prints.push(Words::new(["b", "a"], Unknown::Replace).expect("words").fingerprint());
    let count = prints.len();
    prints.sort_unstable();
    prints.dedup();
    // A vocabulary of single letters means the same whether they are called characters or words.
    assert_eq!(prints.len(), count - 1);
    assert_eq!(Bytes.fingerprint(), BYTES_FINGERPRINT, "checkpoints hold this number: it may not change");
}

/// From the definition of the fingerprint, written anew in Python.
const BYTES_FINGERPRINT: u64 = 14_939_690_888_176_065_480;

#[test]
fn training_is_deterministic_and_covers_every_byte() {
    let train = |text: &str| Bpe::train([Ok(text.repeat(2))], 320).expect("merges");
    assert_eq!(train(TEXT).fingerprint(), train(TEXT).fingerprint());
    assert_ne!(train(TEXT).fingerprint(), train("another text, another vocabulary").fingerprint());
    assert!(matches!(Bpe::train([Ok(TEXT.to_owned())], 257), Err(Error::Setting { found: 257.0, .. })));
    let failing = [Ok(TEXT.to_owned()), Err(Error::Missing { path: "gone".into() })];
    assert!(matches!(Bpe::train(failing, 300), Err(Error::Missing { .. })));
}

#[test]
fn what_is_no_tokenizer_says_so() {
    for (json, part) in [
        ("[1, 2]", "expected a JSON object"),
        ("{1}", "not JSON (key must be a string at line 1 column 2)"),
        ("{}", "found neither"),
        (r#"{"galatea_tokenizer": "syllables"}"#, "expected one of `bytes`, `chars`, `words`"),
        (r#"{"galatea_tokenizer": "chars"}"#, "missing field `alphabet`"),
        (r#"{"galatea_tokenizer": "chars", "alphabet": ""}"#, "no characters"),
        (r#"{"model": {"type": "BPE"}}"#, "tokenizer.json"),
    ] {
        let error = AnyTokenizer::from_json_str(json).expect_err(json).to_string();
        assert!(error.contains(part), "{json}: {error}");
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    assert!(matches!(AnyTokenizer::load(folder.path()), Err(Error::Directory { .. })));
    assert!(matches!(AnyTokenizer::load(folder.path().join("no.json")), Err(Error::Missing { .. })));
    let path = folder.path().join("other.json");
    std::fs::write(&path, "{}").expect("write");
    let error = AnyTokenizer::load(&path).expect_err("no tokenizer").to_string();
    assert!(error.starts_with(&format!("`{}` is not a tokenizer.json", path.display())), "{error}");
}

/// A file without a token for every byte loses nothing in silence: neither with an unknown token nor without one.
#[test]
fn a_loaded_vocabulary_names_what_it_lacks() {
    let file = |unk: &str| {
        format!(
            r#"{{"version": "1.0", "truncation": {{"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0}},
            "padding": null, "added_tokens": [], "normalizer": null, "pre_tokenizer": {{"type": "Whitespace"}},
            "post_processor": null, "decoder": null, "model": {{"type": "BPE", "dropout": null, "unk_token": {unk},
            "continuing_subword_prefix": null, "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
            "vocab": {{"a": 0, "b": 1, "ab": 2, "?": 3}}, "merges": ["a b"]}}}}"#
        )
    };
    for unk in ["null", "\"?\""] {
        let bpe = Bpe::from_json_str(&file(unk)).expect("a small vocabulary");
        assert_eq!(bpe.encode("ab a b ab").expect("known, and not truncated"), [2, 0, 1, 2]);
        assert_eq!((bpe.eos(), bpe.mask(), bpe.vocab_size()), (4, 5, 6));
        for (text, piece, at) in [("ab é a", "é", 3), ("ab z", "z", 3), ("éab", "é", 0)] {
            match bpe.encode(text).expect_err(text) {
                Error::Unknown { piece: found, byte, .. } => assert_eq!((found.as_str(), byte), (piece, at), "{unk}"),
                other => panic!("{other}"),
            }
        }
    }
}

/// A checkpoint's ids are its own: special tokens that a file has stay where they are.
#[test]
fn a_loaded_file_keeps_its_special_ids() {
    let file = r###"{"version": "1.0", "truncation": null, "padding": {"strategy": {"Fixed": 9}, "direction": "Right",
        "pad_to_multiple_of": null, "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"}, "added_tokens": [
        {"id": 0, "content": "[PAD]", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true},
        {"id": 1, "content": "[MASK]", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true}],
        "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null, "lowercase": true},
        "pre_tokenizer": {"type": "BertPreTokenizer"}, "post_processor": null, "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100,
        "vocab": {"[PAD]": 0, "[MASK]": 1, "[UNK]": 2, "[SEP]": 3, "play": 4, "##ing": 5, "we": 6}}}"###;
    let bert = Bpe::from_json_str(file).expect("a small vocabulary");
    assert_eq!((bert.pad(), bert.mask(), bert.eos(), bert.vocab_size()), (0, 1, 3, 7));
    assert!(!bert.mask_is_last());
    let ids = bert.encode("We playing").expect("known words, not padded");
    assert_eq!(ids, [6, 4, 5]);
    assert_eq!(bert.decode(&[6, 1, 4, 5, 3, 0, 0]).expect("ids"), "we [MASK] playing");
    let error = bert.encode("we fly").expect_err("unknown").to_string();
    assert!(error.starts_with("`fly` at byte 3 is not in the vocabulary of 7 tokens"), "{error}");
}

/// The ids of GPT-2's vocabulary, from its own tokenizer.
#[test]
fn gpt2_file_gives_gpt2_ids() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/gpt2_tokenizer.json");
    if !path.exists() {
        galatea_fixtures::skipped(&format!("gpt2_file_gives_gpt2_ids, no {}", path.display()));
        return;
    }
    let gpt2 = AnyTokenizer::load(&path).expect("GPT-2's vocabulary");
    let ids = gpt2.encode("Hello world, diffusion!").expect("any text");
    assert_eq!(ids, [15496, 995, 11, 44258, 0]);
    assert_eq!(gpt2.decode(&ids).expect("ids"), "Hello world, diffusion!");
    assert_eq!((gpt2.eos(), gpt2.mask(), gpt2.vocab_size()), (50256, 50257, 50258));
    let again = AnyTokenizer::from_json_str(&gpt2.to_json().expect("json")).expect("the same");
    assert_eq!(again.fingerprint(), gpt2.fingerprint());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn bytes_give_any_text_back(text in any::<String>()) {
        prop_assert_eq!(Bytes.decode(&Bytes.encode(&text)?)?, text);
    }

    #[test]
    fn chars_give_any_text_over_their_alphabet_back(alphabet in "\\PC{1,20}", picks in prop::collection::vec(any::<prop::sample::Index>(), 0..50)) {
        let chars = Chars::new(alphabet.chars())?;
        let text: String = picks.iter().map(|pick| *pick.get(chars.alphabet())).collect();
        prop_assert_eq!(chars.decode(&chars.encode(&text)?)?, text);
    }

    #[test]
    fn words_give_any_ids_back(text in "[a-c0-2_.,;:!?()'\"$\u{301}é -]{1,40}[ab]", picks in prop::collection::vec(any::<prop::sample::Index>(), 0..50)) {
        let words = Words::from_documents([Ok(text.clone())], usize::MAX, Unknown::Reject)?;
        let ids: Vec<u32> = picks.iter().map(|pick| pick.index(words.words().len()) as u32).collect();
        prop_assert_eq!(words.encode(&words.decode(&ids)?)?, ids);
        let ids = words.encode(&text)?;
        prop_assert_eq!(words.encode(&words.decode(&ids)?)?, ids);
    }

    #[test]
    fn a_trained_vocabulary_gives_any_text_back(text in any::<String>()) {
        static BPE: std::sync::LazyLock<Bpe> = std::sync::LazyLock::new(|| Bpe::train([Ok(TEXT.repeat(3))], 300).expect("merges"));
        prop_assert_eq!(BPE.decode(&BPE.encode(&text)?)?, text);
    }

    #[test]
    fn the_first_unknown_character_is_named(known in "[a-e]{0,20}", unknown in "[f-z]", rest in "[a-z]{0,9}") {
        let chars = Chars::new('a'..='e')?;
        match chars.encode(&format!("{known}{unknown}{rest}")) {
            Err(Error::Unknown { piece, byte, vocab: 7 }) => prop_assert_eq!((piece, byte), (unknown, known.len())),
            other => prop_assert!(false, "{:?}", other),
        }
    }
}
