"""Chunks are exact slices of the document, none too long, nothing lost; sentences end where a reader ends them."""

from __future__ import annotations

import hashlib
import random
import string
import time
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

from shared.core import chunking
from shared.core.chunking import CHUNKER_VERSION, ChunkOptions, chunk, document_text, sentences
from shared.core.errors import ConfigurationError
from shared.core.models import Block, Chunk, ParsedDocument


class WordPieces:
    """A real WordPiece tokenizer with a vocabulary small enough to read: common words, then letters."""

    def __init__(self) -> None:
        words = [
            "the",
            "lease",
            "ends",
            "in",
            "march",
            "rent",
            "is",
            "due",
            "tenant",
            "pays",
            ".",
            ",",
            "?",
            "。",
        ]
        letters = [
            *string.ascii_lowercase,
            *string.digits,
            *("##" + letter for letter in string.ascii_lowercase),
        ]
        vocabulary = {token: index for index, token in enumerate(["[UNK]", *words, *letters])}
        self.tokenizer = Tokenizer(WordPiece(vocabulary, unk_token="[UNK]"))
        self.tokenizer.normalizer = BertNormalizer()
        self.tokenizer.pre_tokenizer = BertPreTokenizer()
        self.characters = 0

    def offsets(self, text: str) -> Sequence[tuple[int, int]]:
        self.characters += len(text)
        found: Sequence[tuple[int, int]] = self.tokenizer.encode(text, add_special_tokens=False).offsets
        return found


PIECES = WordPieces()
SMALL = ChunkOptions(max_tokens=24, overlap_tokens=6, min_tokens=4, max_chars=200)


def paper(*blocks: Block | str) -> ParsedDocument:
    return ParsedDocument("text/plain", tuple(Block(b) if isinstance(b, str) else b for b in blocks))


def texts(chunks: Sequence[Chunk]) -> list[str]:
    return [piece.text for piece in chunks]


def assert_sound(document: ParsedDocument, options: ChunkOptions) -> list[Chunk]:
    chunks = chunk(document, PIECES, options)
    text = document_text(document)
    covered = 0
    for ordinal, piece in enumerate(chunks):
        assert piece.ordinal == ordinal
        assert text[piece.start : piece.end] == piece.text == piece.text.strip() != ""
        assert not text[covered : piece.start].strip(), "text between two chunks is in neither"
        assert piece.end > covered, "a chunk brings nothing new"
        assert len(piece.text) <= options.max_chars
        assert len(PIECES.offsets(piece.embedding_text)) <= options.max_tokens
        covered = piece.end
    assert not text[covered:].strip(), "the end of the document is in no chunk"
    return chunks


letters = st.text(st.sampled_from("abe .,?!\n\t。𝔘é🙂\u200b\x00\x1c\ud800-\"')"), min_size=1, max_size=300)
wild = st.text(min_size=1, max_size=200)
prose = st.lists(
    st.sampled_from(["the", "lease", "ends", "rent.", "Tenant", "xyzzyx", "1.5"]), min_size=1
).map(" ".join)
blocks = st.builds(
    Block,
    text=st.one_of(letters, prose, wild).map(str.strip).filter(bool),
    page=st.sampled_from([None, 1, 2]),
    headings=st.lists(st.one_of(prose, wild), max_size=4).map(tuple),
)
documents = st.lists(blocks, max_size=6).map(lambda found: paper(*found))


@settings(deadline=None, max_examples=250)
@given(
    documents, st.sampled_from([SMALL, ChunkOptions(), ChunkOptions(8, 2, 2, 7), ChunkOptions(9, 0, 0, 1)])
)
def test_any_document_is_covered_by_exact_slices_within_the_limits(
    document: ParsedDocument, options: ChunkOptions
) -> None:
    text = document_text(document)
    if any("\ud800" <= c <= "\udfff" for c in text + "".join(h for b in document.blocks for h in b.headings)):
        return  # the encoder's adapter replaces lone surrogates; the bare tokenizer takes none
    chunks = assert_sound(document, options)
    assert chunks == chunk(document, PIECES, options)


@settings(deadline=None, max_examples=250)
@given(st.one_of(letters, prose, wild))
def test_sentences_are_in_order_and_leave_only_white_space_between(text: str) -> None:
    position = 0
    for start, end in sentences(text):
        assert position <= start < end
        assert not text[position:start].strip()
        assert text[start:end] == text[start:end].strip()
        position = end
    assert not text[position:].strip()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Mr. Smith met J. A. Brown. They left.", ["Mr. Smith met J. A. Brown.", "They left."]),
        ("It costs 3.14 euros. Cheap!", ["It costs 3.14 euros.", "Cheap!"]),
        ("Use a knife, e.g. a sharp one. Cut.", ["Use a knife, e.g. a sharp one.", "Cut."]),
        ("He lives in the U.S. The rest is known.", ["He lives in the U.S.", "The rest is known."]),
        ("The U.S. Army came.", ["The U.S. Army came."]),
        ("See Fig. 3 and No. 5. No. It is not.", ["See Fig. 3 and No. 5.", "No.", "It is not."]),
        ('"Really?" he asked. (Yes.) Fine.', ['"Really?" he asked.', "(Yes.)", "Fine."]),
        ("Well... maybe. Or not… Next!", ["Well... maybe.", "Or not…", "Next!"]),
        ("Acme Inc. of Ohio met X Corp. It paid.", ["Acme Inc. of Ohio met X Corp.", "It paid."]),
        ("今日は晴れです。明日は？はい！", ["今日は晴れです。", "明日は？", "はい！"]),
        ("यह एक है। वह दो है।", ["यह एक है।", "वह दो है।"]),
        ("To do:\n- one\n- two\n1. Go. Then\nstop.", ["To do:", "- one", "- two", "1. Go.", "Then\nstop."]),
        ("Name\tAge\nAda\t36\nBob\t7", ["Name\tAge", "Ada\t36", "Bob\t7"]),
        ("A title\n\nA paragraph\nwrapped.", ["A title", "A paragraph\nwrapped."]),
        (" \n ", []),
    ],
)
def test_sentences_end_where_a_reader_ends_them(text: str, expected: list[str]) -> None:
    assert [text[start:end] for start, end in sentences(text)] == expected


@pytest.mark.parametrize(
    "piece", [".", "\n", ". ", "'", ".'", " ", "\n a", "A. ", "。", '"', "a\n", "e.g. ", "\t\n", "?)", "x"]
)
def test_no_text_makes_the_sentence_splitter_slow(piece: str) -> None:
    text = piece * (400_000 // len(piece)) + "x"
    started = time.process_time()  # of ours alone: others are at work on this machine
    sentences(text)
    assert time.process_time() - started < 20  # a quadratic one takes minutes


def test_borders_prefer_block_ends_then_sentence_ends_then_words() -> None:
    block = "the rent is due. " * 3 + "the lease ends in march"
    first, *_ = chunk(paper(block, block, block), PIECES, SMALL)
    assert first.text == block, "ends with its block"
    first, *_ = chunk(paper(("The tenant pays rent in march. " * 9).strip()), PIECES, SMALL)
    assert first.text.endswith("march."), "ends with a sentence"
    first, *_ = chunk(paper("tenant " * 99 + "x"), PIECES, SMALL)
    assert set(first.text.split()) == {"tenant"}, "ends with a word"


def test_small_blocks_are_merged_but_never_across_pages_or_headings() -> None:
    document = paper(
        Block("the rent is due.", 1, ("A",)),
        Block("the lease ends.", 1, ("A",)),
        Block("the tenant pays.", 2, ("A",)),
        Block("rent.", 2, ("A", "B")),
    )
    chunks = chunk(document, PIECES, SMALL)
    assert texts(chunks) == ["the rent is due.\n\nthe lease ends.", "the tenant pays.", "rent."]
    assert [piece.page for piece in chunks] == [1, 2, 2]
    assert chunks[2].embedding_text == "A > B\nrent."


def test_overlap_is_whole_sentences_of_the_chunk_before() -> None:
    chunks = chunk(paper(" ".join(f"Rent is {word}." for word in string.ascii_lowercase)), PIECES, SMALL)
    assert len(chunks) > 3
    for before, after in pairwise(chunks):
        shared = before.text[after.start - before.start :]
        assert shared.startswith("Rent")
        assert shared.endswith(".")
        assert 0 < len(PIECES.offsets(shared)) <= SMALL.overlap_tokens


def test_no_overlap_reaches_into_another_page() -> None:
    chunks = chunk(
        paper(Block("The rent is due. The lease ends.", 1), Block("rent is due.", 2)), PIECES, SMALL
    )
    assert texts(chunks) == ["The rent is due. The lease ends.", "rent is due."]


def test_a_long_heading_path_loses_its_outermost_headings() -> None:
    path = ("the lease " * 3, "rent " * 5, "march")
    (piece,) = chunk(paper(Block("the tenant pays.", 1, path)), PIECES, SMALL)
    assert piece.headings == ("rent rent rent rent rent", "march")
    (piece,) = chunk(paper(Block("rent.", 1, ("tenant " * 50_000,))), PIECES, SMALL)
    assert piece.embedding_text == "tenant " * 7 + "tenant\nrent."


def test_no_tiny_chunk_is_left_at_the_end() -> None:
    words = ["rent"] * (SMALL.max_tokens + 1)
    chunks = chunk(paper(" ".join(words)), PIECES, SMALL)
    assert [len(PIECES.offsets(piece.text)) for piece in chunks] == [21, 4]


def test_a_cut_inside_a_word_is_counted_again() -> None:
    """The whole word is one unknown token, but each half of it is spelt letter by letter."""
    options = ChunkOptions(max_tokens=24, overlap_tokens=6, min_tokens=4, max_chars=50)
    assert len(PIECES.offsets("x" * 150)) == 1
    assert len(assert_sound(paper("x" * 150), options)) == 7


def scribbled(dice: random.Random) -> ParsedDocument:
    """A document of any script: prose, words without end, lists, lines; with pages and headings."""
    signs = [*"abe .,?!\n\t。é🙂\u200b\x1c-'漢字", "the ", "lease ", "rent. ", "qux" * 9, "x" * 120]
    blocks = [
        Block(
            text,
            dice.choice([None, 1, 2]),
            tuple(dice.choices(["A", "rent", "x" * 60], k=dice.randint(0, 2))),
        )
        for size in dice.choices([9, 90, 900], k=3)
        if (text := "".join(dice.choices(signs, k=size)).strip())
    ]
    return paper(*blocks)


def test_many_documents_are_cut_where_they_always_were() -> None:
    """Recorded when every chunk with a cut inside a word was tokenised anew as a whole."""
    dice, found = random.Random(11), hashlib.sha256()
    for options in [SMALL, ChunkOptions(), ChunkOptions(9, 2, 2, 40)] * 20:
        for piece in chunk(scribbled(dice), PIECES, options):
            found.update(f"{piece.start}-{piece.end} {piece.page} {piece.text_hash}\n".encode())
    assert found.hexdigest() == "f3285222e86197381f77e45d0a4acb67517a534a25e88560cace0ebeae96cfc1"


@pytest.mark.parametrize(
    ("signs", "times"),
    [("rent. ", 1.1), ("漢字漢字漢字。 ", 1.4), ("漢字。", 2.2)],
    ids=["words", "ideographs", "one word"],
)
def test_a_text_is_tokenised_once_but_for_words_that_are_cut(signs: str, times: float) -> None:
    """Nothing in these texts repeats. Where no blank is, a chunk is one word, and counted again."""
    text = "".join(random.Random(4).choices(signs, k=60_000)).strip()
    PIECES.characters = 0
    chunk(paper(text), PIECES)
    assert PIECES.characters < times * len(text)


def test_text_hash_is_of_what_the_encoder_sees() -> None:
    one, other = (chunk(paper(Block("rent.", 1, (heading,))), PIECES)[0] for heading in "AB")
    assert one.text == other.text
    assert one.text_hash != other.text_hash
    assert one.text_hash == "642c64489f2f7eb197c004e979f6d3b45eec49dc114ea101c8d1e5dc5faee360"


def test_slicing_leaves_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    """A document longer than a slice is chunked as if it were read at once."""
    dice = random.Random(3)
    words = ["the", "rent", "lease.", "tenant", "pays,", "march?", "qux", "a\n\nb"]
    document = paper(" ".join(dice.choices(words, k=4000)))
    whole = chunk(document, PIECES, SMALL)
    monkeypatch.setattr(chunking, "SLICE_CHARS", 1000)
    assert chunk(document, PIECES, SMALL) == whole


@pytest.mark.parametrize(
    ("line", "size"),
    [
        ("tenant pays rent. ", 5_000_000),
        ("x", 5_000_000),
        ("\u200b", 5_000_000),
        ("x" + " " * 50_000, 5_000_000),
        ("x" * 99 + " ", 500_000),
        ("ab ", 500_000),
        ("。", 500_000),
        (". ", 500_000),
        ("0", 500_000),
    ],
)
def test_megabytes_in_one_line_take_linear_time(line: str, size: int) -> None:
    document = paper((line * (size // len(line))).strip())
    PIECES.characters = 0
    started = time.process_time()
    chunk(document, PIECES)
    assert PIECES.characters < 2.1 * size, "text is tokenised about twice at most"
    assert time.process_time() - started < 30


def test_an_empty_document_has_no_chunks() -> None:
    assert chunk(paper(), PIECES) == []


@pytest.mark.parametrize(
    "wrong", [{"max_tokens": 7}, {"overlap_tokens": 61}, {"min_tokens": 61}, {"max_chars": 0}]
)
def test_options_that_cannot_work_are_refused_by_name(wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        ChunkOptions(**wrong)


def test_chunks_of_a_fixed_document_change_only_with_the_version() -> None:
    """Change CHUNKER_VERSION together with these chunks: documents are chunked anew only when it changes."""
    text = "The lease ends in march. Rent is due, e.g. in march. The tenant pays. " * 2
    chunks = chunk(paper(Block(text.strip(), 1, ("Rent",)), Block("Due.", 2)), PIECES, SMALL)
    assert CHUNKER_VERSION == "1"
    assert [(piece.start, piece.end, piece.page) for piece in chunks] == [
        (0, 69, 1),
        (53, 122, 1),
        (123, 139, 1),
        (141, 145, 2),
    ]
