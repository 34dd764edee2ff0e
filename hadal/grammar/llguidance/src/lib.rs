//! The C functions of ../llguidance_c.h. Nothing unwinds out of them: a panic is an error sentence.

use std::ffi::c_char;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{mpsc, Arc, Mutex, Once};
use std::time::Duration;

use llguidance::api::{ParserLimits, TopLevelGrammar};
use llguidance::earley::SlicedBiasComputer;
use llguidance::toktrie::{ApproximateTokEnv, InferenceCapabilities, TokEnv, TokRxInfo, TokTrie};
use llguidance::{Matcher, ParserFactory};

/// Schemas recurse as deep as they are long: with so much stack none that is short enough runs out of it. The system
/// gives what is used.
const COMPILE_STACK: usize = 512 << 20;
/// Compilations that were given up still run. No more than so many of them.
const MOST_ABANDONED: usize = 2;

pub struct Vocabulary {
    factory: Arc<ParserFactory>,
    words: usize,
    abandoned: Arc<AtomicUsize>,
}

enum Compilation {
    Running,
    Abandoned,
    Done,
}

pub struct Grammar {
    matcher: Matcher,
    words: usize,
}

fn limits() -> ParserLimits {
    ParserLimits {
        max_lexer_states: 50_000, // 1 to 2 kB each
        verbose_errors: false,    // a sentence, not the grammar
        ..ParserLimits::default()
    }
}

unsafe fn write_error(message: &str, out: *mut c_char, size: usize) {
    if size == 0 {
        return;
    }
    let message = message.split("\n<backtrace>").next().unwrap_or("");
    let length = message.len().min(size - 1);
    std::ptr::copy_nonoverlapping(message.as_ptr(), out as *mut u8, length);
    *out.add(length) = 0;
}

fn guarded<T>(f: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    static QUIET: Once = Once::new();
    QUIET.call_once(|| std::panic::set_hook(Box::new(|_| {})));
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(result) => result,
        Err(cause) => Err(match (cause.downcast_ref::<&str>(), cause.downcast_ref::<String>()) {
            (Some(text), _) => format!("the grammar library failed: {text}"),
            (_, Some(text)) => format!("the grammar library failed: {text}"),
            _ => "the grammar library failed".to_string(),
        }),
    }
}

unsafe fn boxed<T>(result: Result<T, String>, error: *mut c_char, size: usize) -> *mut T {
    match result {
        Ok(value) => Box::into_raw(Box::new(value)),
        Err(message) => {
            write_error(&message, error, size);
            std::ptr::null_mut()
        }
    }
}

/// A control token is no text: it stands behind a byte that no text has, and grammars name it by its id.
fn word(bytes: &[u8], control: bool) -> Vec<u8> {
    let marker = TokTrie::SPECIAL_TOKEN_MARKER;
    if control && bytes.starts_with(b"<") && bytes.ends_with(b">") {
        [&[marker], bytes].concat()
    } else if control || bytes.first() == Some(&marker) {
        vec![]
    } else {
        bytes.to_vec()
    }
}

#[no_mangle]
pub unsafe extern "C" fn hadal_llg_vocabulary(
    bytes: *const u8,
    lengths: *const u32,
    control: *const u8,
    count: usize,
    ends: *const u32,
    end_count: usize,
    error: *mut c_char,
    error_size: usize,
) -> *mut Vocabulary {
    let lengths = std::slice::from_raw_parts(lengths, count);
    let control = std::slice::from_raw_parts(control, count);
    let ends = std::slice::from_raw_parts(ends, end_count);
    let total = lengths.iter().map(|&n| n as usize).sum();
    let bytes = std::slice::from_raw_parts(bytes, total);
    let made = guarded(|| {
        let mut words = Vec::with_capacity(count);
        let mut begin = 0;
        for (&length, &control) in lengths.iter().zip(control) {
            words.push(word(&bytes[begin..begin + length as usize], control != 0));
            begin += length as usize;
        }
        let trie = TokTrie::from(&TokRxInfo::new(count as u32, ends[0]), &words).with_eos_tokens(ends);
        let env: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
        let slices = SlicedBiasComputer::general_slices();
        let mut factory =
            ParserFactory::new(&env, InferenceCapabilities::default(), &slices).map_err(|e| e.to_string())?;
        factory.quiet();
        *factory.limits_mut() = limits();
        Ok(Vocabulary { factory: Arc::new(factory), words: count.div_ceil(32), abandoned: Arc::default() })
    });
    boxed(made, error, error_size)
}

#[no_mangle]
pub unsafe extern "C" fn hadal_llg_free_vocabulary(vocabulary: *mut Vocabulary) {
    if !vocabulary.is_null() {
        drop(Box::from_raw(vocabulary));
    }
}

/// With its first mask, so that what fails at once fails here.
fn compile(factory: &ParserFactory, kind: &str, text: &str) -> Result<Matcher, String> {
    guarded(|| {
        let grammar = TopLevelGrammar::from_tagged_str(kind, text).map_err(|e| e.to_string())?;
        let mut matcher = Matcher::new(factory.create_parser(grammar));
        match matcher.compute_mask_or_eos() {
            Ok(mask) if mask.num_set() == 0 => Err("no text matches it".to_string()),
            Ok(_) => Ok(matcher),
            Err(e) => Err(e.to_string()),
        }
    })
}

#[no_mangle]
pub unsafe extern "C" fn hadal_llg_compile(
    vocabulary: *const Vocabulary,
    kind: *const u8,
    kind_size: usize,
    text: *const u8,
    text_size: usize,
    milliseconds: u64,
    error: *mut c_char,
    error_size: usize,
) -> *mut Grammar {
    let vocabulary = &*vocabulary;
    let kind = String::from_utf8_lossy(std::slice::from_raw_parts(kind, kind_size)).into_owned();
    let text = String::from_utf8_lossy(std::slice::from_raw_parts(text, text_size)).into_owned();
    let made = guarded(|| {
        if vocabulary.abandoned.load(Ordering::Relaxed) >= MOST_ABANDONED {
            return Err("others that take too long are still being compiled; try again later".to_string());
        }
        let (send, receive) = mpsc::channel();
        let factory = vocabulary.factory.clone();
        let abandoned = vocabulary.abandoned.clone();
        let state = Arc::new(Mutex::new(Compilation::Running));
        let worker_state = state.clone();
        let worker = std::thread::Builder::new().stack_size(COMPILE_STACK).spawn(move || {
            let _ = send.send(compile(&factory, &kind, &text));
            let mut state = worker_state.lock().unwrap();
            if matches!(*state, Compilation::Abandoned) {
                abandoned.fetch_sub(1, Ordering::Relaxed);
            }
            *state = Compilation::Done;
        });
        worker.map_err(|e| format!("no thread to compile it: {e}"))?;
        if let Ok(matcher) = receive.recv_timeout(Duration::from_millis(milliseconds)) {
            return Ok(Grammar { matcher: matcher?, words: vocabulary.words });
        }
        let mut state = state.lock().unwrap();
        if matches!(*state, Compilation::Running) {
            *state = Compilation::Abandoned;
            vocabulary.abandoned.fetch_add(1, Ordering::Relaxed);
        }
        Err(format!("takes longer than {milliseconds} ms to compile"))
    });
    boxed(made, error, error_size)
}

#[no_mangle]
pub unsafe extern "C" fn hadal_llg_free(grammar: *mut Grammar) {
    if !grammar.is_null() {
        let grammar = Box::from_raw(grammar);
        let _ = guarded(|| {
            drop(grammar);
            Ok(())
        });
    }
}

/// With caches of its own: what one answer looks at is not paid for, or waited for, by another.
#[no_mangle]
pub unsafe extern "C" fn hadal_llg_clone(
    grammar: *const Grammar,
    error: *mut c_char,
    error_size: usize,
) -> *mut Grammar {
    let grammar = &*grammar;
    boxed(
        guarded(|| Ok(Grammar { matcher: grammar.matcher.deep_clone(), words: grammar.words })),
        error,
        error_size,
    )
}

/// Clears the bits of `allowed` that may not come next. False on an error.
#[no_mangle]
pub unsafe extern "C" fn hadal_llg_mask(
    grammar: *mut Grammar,
    allowed: *mut u32,
    words: usize,
    error: *mut c_char,
    error_size: usize,
) -> bool {
    let grammar = &mut *grammar;
    let allowed = std::slice::from_raw_parts_mut(allowed, words);
    let done = guarded(|| {
        let mask = grammar.matcher.compute_mask_or_eos().map_err(|e| e.to_string())?;
        let bits = mask.as_slice();
        let known = grammar.words.min(bits.len()).min(words);
        for (to, from) in allowed[..known].iter_mut().zip(bits) {
            *to &= from;
        }
        allowed[known..].fill(0);
        Ok(())
    });
    match done {
        Ok(()) => true,
        Err(message) => {
            write_error(&message, error, error_size);
            false
        }
    }
}

#[no_mangle]
pub unsafe extern "C" fn hadal_llg_accept(
    grammar: *mut Grammar,
    token: u32,
    error: *mut c_char,
    error_size: usize,
) -> bool {
    let grammar = &mut *grammar;
    match guarded(|| grammar.matcher.consume_token(token).map_err(|e| e.to_string())) {
        Ok(()) => true,
        Err(message) => {
            write_error(&message, error, error_size);
            false
        }
    }
}

/// Whether nothing may come any more.
#[no_mangle]
pub unsafe extern "C" fn hadal_llg_stopped(grammar: *const Grammar) -> bool {
    (*grammar).matcher.is_stopped()
}
