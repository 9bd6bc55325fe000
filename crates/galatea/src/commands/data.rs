//! `galatea data`: what a text holds, and tokenizers.

use crate::automatic;
use crate::failure::Usage;
use crate::settings::{Settings, path_value};
use crate::ui::out;
use anyhow::Context;
use galatea_text::{AnyTokenizer, Format, Layout, Summary, Tokenizer};
use galatea_train::config::{DocumentChoice, LayoutChoice};
use serde_json::json;
use std::io::Read;
use std::path::PathBuf;

/// Arguments of `galatea data`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  galatea data inspect book.txt --tokenizer words
  galatea data tokenizer train --data book.txt --vocab 2048 --out tokenizer.json
  galatea data tokenizer encode --tokenizer tokenizer.json 'to be'
  galatea data tokenizer decode --tokenizer tokenizer.json 117 281")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Count a text's documents, tokens and lengths, and say how `train` would lay it out
    Inspect(Box<InspectArgs>),
    /// Train and use tokenizers
    #[command(subcommand)]
    Tokenizer(TokenizerCommand),
}

/// Arguments of `galatea data inspect`.
#[derive(clap::Args)]
struct InspectArgs {
    /// A .txt or .jsonl file
    #[arg(value_name = "PATH")]
    path: PathBuf,
    /// What a token is
    #[arg(long, value_name = "KIND", value_parser = ["chars", "words", "bytes", "bpe"])]
    tokenizer: Option<String>,
    /// A tokenizer.json to use instead of building one from the text
    #[arg(long, value_name = "FILE")]
    tokenizer_file: Option<PathBuf>,
    /// Size of the vocabulary, for words and bpe
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    vocab: Option<u32>,
    /// Where a document of a .txt file ends
    #[arg(long, value_name = "UNIT", value_parser = ["line", "paragraph", "file"])]
    document: Option<String>,
    /// The field of a .jsonl line that holds the text, or the answer of a pair
    #[arg(long, value_name = "NAME")]
    field: Option<String>,
    /// The field of a .jsonl line that holds the prompt of a pair
    #[arg(long, value_name = "NAME")]
    prompt_field: Option<String>,
    /// How documents become rows
    #[arg(long, value_name = "LAYOUT", value_parser = ["packed", "padded", "pairs"])]
    layout: Option<String>,
    /// Tokens a row
    #[arg(long, value_name = "TOKENS", value_parser = clap::value_parser!(u32).range(1..))]
    len: Option<u32>,
    /// Print one JSON object instead of lines
    #[arg(long)]
    json: bool,
}

#[derive(clap::Subcommand)]
enum TokenizerCommand {
    /// Build a tokenizer from a text and write its tokenizer.json
    Train {
        /// A .txt or .jsonl file
        #[arg(long, value_name = "PATH")]
        data: PathBuf,
        /// What a token is
        #[arg(long, value_name = "KIND", default_value = "bpe", value_parser = ["chars", "words", "bytes", "bpe"])]
        kind: String,
        /// Size of the vocabulary, for words and bpe
        #[arg(long, value_name = "N", default_value_t = 8192, value_parser = clap::value_parser!(u32).range(1..))]
        vocab: u32,
        /// The field of a .jsonl line that holds the text
        #[arg(long, value_name = "NAME")]
        field: Option<String>,
        /// The file to write
        #[arg(long, value_name = "FILE", default_value = "tokenizer.json")]
        out: PathBuf,
    },
    /// Print the ids of a text
    Encode {
        /// A tokenizer.json
        #[arg(long, value_name = "FILE")]
        tokenizer: PathBuf,
        /// The text; standard input if not given
        text: Option<String>,
        /// Print one JSON object with ids and tokens
        #[arg(long)]
        json: bool,
    },
    /// Print the text of ids
    Decode {
        /// A tokenizer.json
        #[arg(long, value_name = "FILE")]
        tokenizer: PathBuf,
        /// The ids; standard input if not given
        ids: Vec<u32>,
    },
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    match &args.command {
        Command::Inspect(args) => inspect(args),
        Command::Tokenizer(TokenizerCommand::Train { data, kind, vocab, field, out }) => {
            let mut settings = Settings::default();
            settings.set("data.source", path_value(data)?);
            settings.set_some("data.field", field.clone());
            settings.set("tokenizer.kind", kind.clone());
            settings.set("tokenizer.vocab", i64::from(*vocab));
            let config = settings.config()?;
            // Merges may learn that a line ends, so that they see more of a text than a line.
            let corpus = automatic::corpus(&config, DocumentChoice::Paragraph)?;
            let tokenizer = automatic::tokenizer(&config.tokenizer, &config.data, &corpus)?;
            tokenizer.save(out)?;
            out::line(format_args!(
                "wrote {}: {} tokens of kind {}",
                out.display(),
                tokenizer.vocab_size(),
                tokenizer.kind()
            ))
        }
        Command::Tokenizer(TokenizerCommand::Encode { tokenizer, text, json }) => {
            let tokenizer = AnyTokenizer::load(tokenizer)?;
            let text = match text {
                Some(text) => text.clone(),
                None => standard_input()?,
            };
            let ids = tokenizer.encode(&text)?;
            if *json {
                let tokens: Vec<_> =
                    ids.iter().map(|&id| tokenizer.token(id).unwrap_or_default().into_owned()).collect();
                return out::json(&json!({"ids": ids, "tokens": tokens}));
            }
            out::line(ids.iter().map(u32::to_string).collect::<Vec<_>>().join(" "))
        }
        Command::Tokenizer(TokenizerCommand::Decode { tokenizer, ids }) => {
            let tokenizer = AnyTokenizer::load(tokenizer)?;
            let ids = if ids.is_empty() { parse_ids(&standard_input()?)? } else { ids.clone() };
            out::line(tokenizer.decode(&ids)?)
        }
    }
}

fn standard_input() -> anyhow::Result<String> {
    let mut text = String::new();
    std::io::stdin().lock().read_to_string(&mut text).context("cannot read standard input as UTF-8 text")?;
    Ok(text)
}

fn parse_ids(text: &str) -> anyhow::Result<Vec<u32>> {
    let id = |word: &str| {
        word.parse().map_err(|_| {
            Usage::new(format!("`{word}` is no id"), "ids are whole numbers with spaces between them").into()
        })
    };
    text.split_whitespace().map(id).collect()
}

fn inspect(args: &InspectArgs) -> anyhow::Result<()> {
    let mut settings = Settings::default();
    settings.set("data.source", path_value(&args.path)?);
    settings.set_some("tokenizer.kind", args.tokenizer.clone());
    settings.set_some("tokenizer.path", args.tokenizer_file.as_deref().map(path_value).transpose()?);
    settings.set_some("tokenizer.vocab", args.vocab.map(i64::from));
    settings.set_some("data.document", args.document.clone());
    settings.set_some("data.field", args.field.clone());
    settings.set_some("data.prompt_field", args.prompt_field.clone());
    settings.set_some("data.layout", args.layout.clone());
    settings.set_some("data.len", args.len.map(i64::from));
    let chosen = automatic::complete(&mut settings)?;
    let config = settings.config()?;
    let corpus = automatic::corpus(&config, config.data.document)?;
    let tokenizer = automatic::tokenizer(&config.tokenizer, &config.data, &corpus)?;
    let layout = match config.data.layout {
        LayoutChoice::Packed => Layout::Packed,
        LayoutChoice::Padded | LayoutChoice::Pairs => Layout::Padded,
    };
    let summary = automatic::encode(&config.data, &corpus, &tokenizer)?.inspect(layout, config.data.len)?;
    if args.json {
        return out::json(&figures(&summary, tokenizer.kind(), &config.data));
    }
    let kind = match corpus.format() {
        Format::Jsonl(field) => format!("JSON objects, text in `{field}`"),
        Format::Text(unit) => format!("text, a document a {unit:?}").to_lowercase(),
    };
    out::line(format_args!("{} ({kind}; {} tokens)\n{summary}", args.path.display(), tokenizer.kind()))?;
    chosen.map_or(Ok(()), |chosen| out::line(format_args!("train would take {chosen}")))
}

fn figures(s: &Summary, kind: &str, data: &galatea_train::config::Data) -> serde_json::Value {
    let l = s.lengths;
    json!({
        "documents": s.documents, "tokens": s.tokens, "characters": s.characters, "bytes": s.bytes, "tokenizer": kind,
        "vocabulary": s.vocab, "distinct_tokens": s.distinct, "layout": data.layout, "len": s.len, "document": data.document,
        "rows": s.rows, "cut_documents": s.cut_documents, "cut_tokens": s.cut_tokens,
        "lengths": {"min": l.min, "p10": l.p10, "median": l.median, "p90": l.p90, "p99": l.p99, "max": l.max, "mean": l.mean},
    })
}
