//! Private information retrieval: requests, queries, answers and shapes.
//!
//! Input: one byte that chooses, then the bytes. Queries and answers are far
//! longer than an input: it is repeated until they are full. What is taken is
//! answered in full length, alike alone and together with others; what is decoded
//! is a row.

#![no_main]

use std::sync::LazyLock;

use blindbook::{
    bucket::PrefixBits,
    pir::{Asked, Filling, Kernel, Matrix, Preparer, Public, Query, RING, Shape},
    token::TOKEN_BYTES,
    wire::{QueryPir, pir_shape, proto},
};
use libfuzzer_sys::{Corpus, fuzz_target};
use prost::Message as _;
use rand::{SeedableRng as _, rngs::StdRng};

static SHAPE: LazyLock<Shape> = LazyLock::new(|| Shape::new(8, 100).expect("it is one"));
static PUBLIC: LazyLock<Public> = LazyLock::new(|| Public::expand(&[1; 32], *SHAPE));

static MATRIX: LazyLock<Matrix> = LazyLock::new(|| {
    let kernel = Kernel::best();
    let mut preparer = Preparer::new(&PUBLIC, kernel).expect("there is memory");
    let mut filling = Filling::new(*SHAPE).expect("there is memory");
    for row in 0..8_u8 {
        filling.write(usize::from(row), &[row * 31; 100]);
    }
    let (block, _) = filling.prepare(&mut preparer).expect("there is memory");
    Matrix::new(*SHAPE, kernel, vec![block])
});

static ASKED: LazyLock<Asked> =
    LazyLock::new(|| Asked::new(&PUBLIC, 3, &mut StdRng::seed_from_u64(1)).expect("a row"));

fuzz_target!(init: {
    // Once, and on no input's time.
    LazyLock::force(&MATRIX);
    LazyLock::force(&ASKED);
}, |data: &[u8]| -> Corpus {
    let Some((choice, bytes)) = data.split_first() else { return Corpus::Reject };
    match choice % 4 {
        0 => request(bytes, choice / 4),
        1 => query(bytes, choice / 4),
        2 => answer(bytes),
        _ => shape(bytes),
    }
    Corpus::Keep
});

fn repeated(bytes: &[u8], length: usize) -> Vec<u8> {
    let bytes = if bytes.is_empty() { &[0] } else { bytes };
    bytes.iter().copied().cycle().take(length).collect()
}

/// A request as it is, and with a query of the right length.
fn request(bytes: &[u8], fill: u8) {
    let Ok(mut request) = proto::QueryPirRequest::decode(bytes) else { return };
    if fill % 2 == 0
        && let Ok(bits) = PrefixBits::new(request.directory_prefix_bits)
    {
        request.query = repeated(&request.query, pir_shape(bits).query_bytes()).into();
    }
    let sent = request.clone();
    match QueryPir::try_from(request) {
        Ok(checked) => {
            let bits = checked.directory_prefix_bits;
            assert!(checked.partition < bits.partitions());
            assert_eq!(checked.query.len(), pir_shape(bits).query_bytes());
            assert!([0, TOKEN_BYTES].contains(&checked.tokens.len()));
            assert!(Query::parse(pir_shape(bits), &checked.query[1..]).is_err());
            let back = proto::QueryPirRequest::from(checked);
            assert!(back == sent, "the checked form lost or added something");
        }
        Err(error) => assert!(error.to_string().starts_with(error.field())),
    }
}

fn query(bytes: &[u8], at: u8) {
    // Another length is refused.
    assert!(bytes.len() == SHAPE.query_bytes() || Query::parse(*SHAPE, bytes).is_err());
    // A good query, of which a part is the input.
    let mut whole = ASKED.query().to_vec();
    let first = usize::from(at) * whole.len() / 64;
    for (to, from) in whole.iter_mut().skip(first).zip(bytes) {
        *to = *from;
    }
    for whole in [whole, repeated(bytes, SHAPE.query_bytes())] {
        let Ok(query) = Query::parse(*SHAPE, &whole) else { continue };
        let answers = MATRIX.answer(&[&query, &query]);
        assert_eq!(answers.len(), 2);
        assert_eq!(answers[0].len(), SHAPE.answer_bytes());
        assert!(answers[0] == answers[1], "an answer depends on who else asks");
        assert!(MATRIX.answer(&[&query])[0] == answers[0], "it depends on how many ask");
    }
}

fn answer(bytes: &[u8]) {
    assert!(bytes.len() == SHAPE.answer_bytes() || ASKED.decode(bytes).is_err());
    let row = ASKED.decode(&repeated(bytes, SHAPE.answer_bytes())).expect("of the right length");
    assert_eq!(row.len(), SHAPE.row_bytes());
}

fn shape(bytes: &[u8]) {
    let Some((rows, rest)) = bytes.split_first_chunk::<4>() else { return };
    let Some((row_bytes, _)) = rest.split_first_chunk::<4>() else { return };
    let [rows, row_bytes] = [*rows, *row_bytes].map(|word| u32::from_be_bytes(word) as usize);
    if let Ok(shape) = Shape::new(rows, row_bytes) {
        assert!(rows.is_power_of_two() && shape.blocks() * RING >= row_bytes);
        assert!(shape.query_bytes() <= 264_192 && shape.memory_bytes() > 0);
        let noise = shape.noise();
        assert!(noise.worst * 7.0 < noise.margin, "a shape that does not decode");
    }
}
