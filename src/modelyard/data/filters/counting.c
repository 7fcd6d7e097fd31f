/* What modelyard.data.filters counts in a block of documents, one pass each, on the arrays of words.py.
 *
 * Plain C without Python.h: native.py loads it with ctypes and says what each array holds. The NumPy code beside each
 * call defines the answers, which these must equal bit for bit. All memory is the caller's: outputs have room for every
 * character or word, `table` has at least twice as many slots as a document has entries, a power of two.
 */

#include <stdint.h>
#include <string.h>

#ifndef SOURCE
#define SOURCE 0
#endif

typedef int64_t i64;
typedef uint64_t u64;
typedef uint32_t u32;
typedef uint8_t u8;
typedef int8_t i8;

enum { LETTER = 1, ALNUM = 2, SPACE = 4, MARK = 8, IDEOGRAPHIC = 16, SOUTHEAST = 32 };
enum { SINGLE = 0, FIRST = 1, AGAIN = 2 };

#define BASE (0x9E3779B97F4A7C15ull | 1)
#define MIX 0xD6E8FEB86659FD93ull
#define STEP 0xA0761D6478BD642Full

/* Which source this was compiled from: the first 60 bits of its sha256. */
i64 source(void) { return SOURCE; }

/* Kinds and prefix sums of the hashes of code points. */
void characters(const u32 *codes, i64 size, const u8 *kinds_of, const u32 *folded, u8 *kinds, u64 *prefix) {
    u64 total = 0, power = 1;
    prefix[0] = 0;
    for (i64 i = 0; i < size; i++) {
        kinds[i] = kinds_of[codes[i]];
        total += ((u64)folded[codes[i]] * MIX + 1) * power;
        power *= BASE;
        prefix[i + 1] = total;
    }
}

static int joins(const u32 *codes, const u8 *kinds, i64 size, i64 i, int apostrophes) {
    u32 code = codes[i];
    int mark = code == 0x200C || code == 0x200D || (apostrophes && (code == '\'' || code == 0x2019));
    return mark && i > 0 && i + 1 < size && (kinds[i - 1] & (ALNUM | MARK)) && (kinds[i + 1] & (ALNUM | MARK));
}

/* Words: [start, end), hash and document of each, the first of each document, and per document how many stand alone of
 * each of two kinds. Returns how many there are. */
i64 words(const u32 *codes, const u8 *kinds, const u64 *prefix, const u64 *inverse, i64 size, const i64 *documents_at,
          i64 documents, int apostrophes, int unspaced, i64 *starts, i64 *ends, u64 *hashes, i64 *owner, i64 *rows,
          i64 *alone_counts) {
    u8 alone_kinds = unspaced ? IDEOGRAPHIC | SOUTHEAST : 0;
    i64 count = 0;
    for (i64 d = 0; d < documents; d++) {
        i64 ideographs = 0, southeast = 0, stop = documents_at[d + 1], i = documents_at[d];
        rows[d] = count;
        while (i < stop) {
            if (!(kinds[i] & (ALNUM | MARK)) && !joins(codes, kinds, size, i, apostrophes)) {
                i++;
                continue;
            }
            i64 start = i++;
            if (kinds[start] & alone_kinds) {
                ideographs += (kinds[start] & IDEOGRAPHIC) != 0;
                southeast += (kinds[start] & SOUTHEAST) != 0;
            } else {
                while (i < stop && !(kinds[i] & alone_kinds) &&
                       ((kinds[i] & (ALNUM | MARK)) || joins(codes, kinds, size, i, apostrophes)))
                    i++;
            }
            starts[count] = start;
            ends[count] = i;
            hashes[count] = (prefix[i] - prefix[start]) * inverse[start];
            owner[count++] = d;
        }
        alone_counts[d] = ideographs;
        alone_counts[documents + d] = southeast;
    }
    rows[documents] = count;
    return count;
}

static u64 inverse_of(u64 odd) {
    u64 x = odd; /* Newton: correct bits double from 3 */
    for (int i = 0; i < 5; i++) x *= 2 - odd * x;
    return x;
}

static u64 step_power(i64 exponent) {
    u64 power = 1;
    while (exponent-- > 0) power *= STEP;
    return power;
}

/* N-grams of size * steps[document] words inside documents: hash and first word. Returns how many there are. */
i64 ngrams(const u64 *hashes, const i64 *rows, const i64 *steps, i64 documents, i64 size, u64 *found, i64 *starts) {
    u64 back = inverse_of(STEP);
    i64 count = 0;
    for (i64 d = 0; d < documents; d++) {
        i64 width = size * steps[d], first = rows[d], last = rows[d + 1] - width;
        if (first > last) continue;
        u64 total = 0, power = step_power(width - 1);
        for (i64 k = width - 1; k >= 0; k--) total = total * STEP + hashes[first + k];
        for (i64 i = first;; i++) {
            found[count] = total * MIX;
            starts[count++] = i;
            if (i == last) break;
            total = (total - hashes[i]) * back + hashes[i + width] * power;
        }
    }
    return count;
}

static int shift_for(i64 entries) {
    int bits = 1;
    while (((i64)1 << bits) < 2 * entries) bits++;
    return 64 - bits;
}

/* The index of an equal key among keys[first..], or `index` itself, which is then the first. */
static i64 lookup(const u64 *keys, i64 first, i64 index, u32 *table, int shift) {
    u64 mask = ((u64)1 << (64 - shift)) - 1, slot = (keys[index] * BASE) >> shift;
    while (table[slot]) {
        i64 other = first + table[slot] - 1;
        if (keys[other] == keys[index]) return other;
        slot = (slot + 1) & mask;
    }
    table[slot] = (u32)(index - first + 1);
    return index;
}

static void clear(u32 *table, int shift) { memset(table, 0, sizeof(u32) << (64 - shift)); }

/* For each hash whether it stands alone in its document, is the first of several or comes again. */
void seen_before(const u64 *hashes, const i64 *owner, i64 size, u32 *table, i8 *state) {
    for (i64 first = 0, stop; first < size; first = stop) {
        for (stop = first; stop < size && owner[stop] == owner[first]; stop++) state[stop] = SINGLE;
        int shift = shift_for(stop - first);
        clear(table, shift);
        for (i64 i = first; i < stop; i++) {
            i64 other = lookup(hashes, first, i, table, shift);
            if (other == i) continue;
            state[other] = FIRST;
            state[i] = AGAIN;
        }
    }
}

/* How often each document's most frequent word occurs, and which it is: of several the one that comes first. */
void top_word(const u64 *hashes, const i64 *rows, i64 documents, u32 *table, u32 *counts, i64 *top, i64 *place) {
    for (i64 d = 0; d < documents; d++) {
        int shift = shift_for(rows[d + 1] - rows[d]);
        clear(table, shift);
        top[d] = 0;
        place[d] = rows[d];
        for (i64 i = rows[d]; i < rows[d + 1]; i++) counts[i] = 0;
        for (i64 i = rows[d]; i < rows[d + 1]; i++) counts[lookup(hashes, rows[d], i, table, shift)]++;
        for (i64 i = rows[d]; i < rows[d + 1]; i++)
            if (counts[i] > top[d]) {
                top[d] = counts[i];
                place[d] = i;
            }
    }
}

/* Characters in the most frequent n-gram that occurs twice of each document, n = 2, 3, 4: most [3, documents].
 * `owner`, `flags` (two rows), `keys` and `counts` are scratch, one entry a word. */
void top_ngrams(const u64 *hashes, const i64 *sizes, const i64 *rows, const i64 *steps, i64 documents, u32 *table,
                u64 *keys, u32 *owner, u32 *counts, u8 *flags, i64 *most) {
    i64 total_words = rows[documents];
    u64 back = inverse_of(STEP);
    memset(flags, 1, total_words);
    for (int n = 2; n <= 4; n++) {
        u8 *before = flags + (n % 2) * total_words, *now = flags + ((n + 1) % 2) * total_words;
        memset(now, 0, total_words);
        for (i64 d = 0; d < documents; d++) {
            i64 first = rows[d], width = n * steps[d], last = rows[d + 1] - width, used = 0, best = 0;
            most[(n - 2) * documents + d] = 0;
            if (first > last) continue;
            u64 total = 0, power = step_power(width - 1);
            for (i64 k = width - 1; k >= 0; k--) total = total * STEP + hashes[first + k];
            for (i64 i = first;; i++) {
                keys[i] = total * MIX;
                used += n == 2 || (before[i] && before[i + steps[d]]);
                if (i == last) break;
                total = (total - hashes[i]) * back + hashes[i + width] * power;
            }
            if (!used) continue;
            int shift = shift_for(used);
            clear(table, shift);
            memset(counts + first, 0, sizeof(u32) * (last - first + 1));
            for (i64 i = first; i <= last; i++) {
                if (n > 2 && !(before[i] && before[i + steps[d]])) continue;
                i64 other = lookup(keys, first, i, table, shift);
                owner[i] = (u32)(other - first);
                counts[other]++;
            }
            for (i64 i = first; i <= last; i++) {
                if (n > 2 && !(before[i] && before[i + steps[d]])) continue;
                u32 times = counts[first + owner[i]];
                now[i] = times > 1;
                i64 characters_in = (sizes[i + width] - sizes[i]) * times;
                if (times > 1 && owner[i] == (u32)(i - first) && characters_in > best) best = characters_in;
            }
            most[(n - 2) * documents + d] = best;
        }
    }
}

/* Characters of words in n-grams that repeat an earlier one, for n = 5, 6, ...: [sizes, documents]. An n-gram counts
 * from the second size on where all its words stood in repeated ones of the size before. */
void duplicate_ngrams(const u64 *hashes, const i64 *sizes, const i64 *rows, const i64 *steps, i64 documents,
                      i64 how_many, u32 *table, u64 *keys, i8 *state, u8 *covered, i64 *characters_in) {
    u64 back = inverse_of(STEP);
    memset(characters_in, 0, sizeof(i64) * how_many * documents);
    for (i64 d = 0; d < documents; d++) {
        i64 first = rows[d], stop = rows[d + 1];
        memset(covered + first, 1, stop - first);
        for (i64 n = 5; n < 5 + how_many; n++) {
            i64 width = n * steps[d], last = stop - width, run = 0, used = 0;
            if (first > last) break;
            u64 total = 0, power = step_power(width - 1);
            for (i64 k = width - 1; k >= 0; k--) total = total * STEP + hashes[first + k];
            for (i64 k = first; k < first + width - 1; k++) run = covered[k] ? run + 1 : 0;
            for (i64 i = first;; i++) {
                run = covered[i + width - 1] ? run + 1 : 0;
                state[i] = run >= width ? SINGLE : -1;
                used += run >= width;
                keys[i] = total * MIX;
                if (i == last) break;
                total = (total - hashes[i]) * back + hashes[i + width] * power;
            }
            if (!used) break;
            int shift = shift_for(used), repeats = 0;
            clear(table, shift);
            for (i64 i = first; i <= last; i++) {
                if (state[i] < 0) continue;
                i64 other = lookup(keys, first, i, table, shift);
                if (other == i) continue;
                state[other] = state[other] == AGAIN ? AGAIN : FIRST;
                state[i] = AGAIN;
                repeats = 1;
            }
            if (!repeats) break;
            i64 any_until = first, later_until = first, sum = 0;
            for (i64 i = first; i < stop; i++) {
                if (i <= last && state[i] >= FIRST) any_until = i + width;
                if (i <= last && state[i] == AGAIN) later_until = i + width;
                covered[i] = i < any_until;
                if (i < later_until) sum += sizes[i + 1] - sizes[i];
            }
            characters_in[(n - 5) * documents + d] = sum;
        }
    }
}

/* Whether each word stands in one of the n-grams of widths[k] words that begin, in order, at starts[k]. */
void covered(const i64 *starts, const i64 *widths, i64 size, i64 words_in, u8 *inside) {
    memset(inside, 0, words_in);
    i64 until = 0;
    for (i64 k = 0; k < size; k++) {
        i64 from = starts[k] > until ? starts[k] : until, stop = starts[k] + widths[k];
        for (i64 i = from; i < stop && i < words_in; i++) inside[i] = 1;
        if (stop > until) until = stop;
    }
}

/* Per document: visible characters, letters with marks, number signs, ellipses, words with a letter: [5, documents]. */
void tallies(const u32 *codes, const u8 *kinds, const i64 *documents_at, i64 documents, const i64 *starts,
             const i64 *ends, const i64 *rows, i64 *out) {
    for (i64 d = 0; d < documents; d++) {
        i64 visible = 0, letters = 0, signs = 0, ellipses = 0, lettered = 0, dots = 0;
        for (i64 i = documents_at[d]; i < documents_at[d + 1]; i++) {
            visible += !(kinds[i] & SPACE);
            letters += (kinds[i] & (LETTER | MARK)) != 0;
            signs += codes[i] == '#';
            dots = codes[i] == '.' ? dots + 1 : 0;
            ellipses += codes[i] == 0x2026 || dots == 3;
        }
        for (i64 w = rows[d]; w < rows[d + 1]; w++)
            for (i64 i = starts[w]; i < ends[w]; i++)
                if (kinds[i] & (LETTER | MARK)) {
                    lettered++;
                    break;
                }
        out[d] = visible;
        out[documents + d] = letters;
        out[2 * documents + d] = signs;
        out[3 * documents + d] = ellipses;
        out[4 * documents + d] = lettered;
    }
}

/* How many of up to 64 hashes each document has among its words. */
void present(const u64 *hashes, const i64 *rows, i64 documents, const u64 *wanted, i64 wanted_size, i64 *out) {
    for (i64 d = 0; d < documents; d++) {
        u64 met = 0;
        for (i64 i = rows[d]; i < rows[d + 1]; i++)
            for (i64 k = 0; k < wanted_size; k++) met |= (u64)(hashes[i] == wanted[k]) << k;
        i64 count = 0;
        for (; met; met &= met - 1) count++;
        out[d] = count;
    }
}

/* Lines and paragraphs without surrounding space, empty ones left out: [start, end) and document of each; the longest
 * line of each document, with its space. `counts` receives how many lines and paragraphs there are. */
void layout(const u32 *codes, const u8 *kinds, const i64 *documents_at, i64 documents, i64 *starts, i64 *ends,
            i64 *owner, i64 *paragraph_starts, i64 *paragraph_ends, i64 *paragraph_owner, i64 *longest, i64 *counts) {
    i64 lines = 0, paragraphs = 0;
    for (i64 d = 0; d < documents; d++) {
        int open = 0; /* whether the line before was no empty one */
        longest[d] = 0;
        for (i64 begin = documents_at[d], stop; begin < documents_at[d + 1]; begin = stop + 1) {
            i64 first = -1, last = -1;
            for (stop = begin; codes[stop] != '\n'; stop++)
                if (!(kinds[stop] & SPACE)) {
                    if (first < 0) first = stop;
                    last = stop;
                }
            if (stop - begin > longest[d]) longest[d] = stop - begin;
            if (first >= 0) {
                starts[lines] = first;
                ends[lines] = last + 1;
                owner[lines++] = d;
                if (!open) {
                    paragraph_starts[paragraphs] = first;
                    paragraph_owner[paragraphs++] = d;
                }
                paragraph_ends[paragraphs - 1] = last + 1;
            }
            open = first >= 0;
        }
    }
    counts[0] = lines;
    counts[1] = paragraphs;
}

enum { DIGIT = 1, SEPARATOR = 2 };

/* Runs of digits and separators with a digit at both ends and at least `least` characters: start, end and digits of each
 * in `runs`, [most, 3]. Returns how many there are. */
i64 digit_runs(const u32 *codes, i64 size, const u8 *classes, i64 least, i64 *runs) {
    i64 count = 0;
    for (i64 i = 0; i < size; i++) {
        if (!(classes[codes[i]] & DIGIT)) continue;
        i64 start = i, last = i, digits = 0;
        for (u8 class; i < size && (class = classes[codes[i]]); i++)
            if (class & DIGIT) {
                last = i;
                digits++;
            }
        if (last + 1 - start < least) continue;
        runs[3 * count] = start;
        runs[3 * count + 1] = last + 1;
        runs[3 * count++ + 2] = digits;
    }
    return count;
}

static int is_digit(u32 code) { return code >= '0' && code <= '9'; }
static int is_capital(u32 code) { return code >= 'A' && code <= 'Z'; }

/* Capitals from which one, two, four or six of them lead to two digits, or one by way of a dash. Returns how many. */
i64 lettered(const u32 *codes, i64 size, i64 *places) {
    i64 count = 0;
    for (i64 i = 1; i + 1 < size; i++) {
        if (!is_digit(codes[i]) || !is_digit(codes[i + 1]) || is_digit(codes[i - 1])) continue;
        i64 capitals = 0;
        while (capitals < 6 && capitals < i && is_capital(codes[i - 1 - capitals])) capitals++;
        for (i64 length = 6; length > 0; length -= length > 2 ? 2 : 1)
            if (capitals >= length) places[count++] = i - length;
        if (codes[i - 1] == '-' && i > 1 && is_capital(codes[i - 2])) places[count++] = i - 2;
    }
    return count;
}

static int in_word(u8 byte) {
    return (byte >= 'a' && byte <= 'z') || (byte >= '0' && byte <= '9') || byte == '$' || byte == '@' || byte == '*';
}

/* CRC-32 (zlib's) of each word that the abuse filter counts. Returns how many there are. */
i64 word_codes(const u8 *text, i64 size, u64 *codes) {
    u32 table[256];
    for (u32 byte = 0; byte < 256; byte++) {
        u32 rest = byte;
        for (int bit = 0; bit < 8; bit++) rest = rest & 1 ? rest >> 1 ^ 0xEDB88320u : rest >> 1;
        table[byte] = rest;
    }
    i64 count = 0;
    for (i64 i = 0; i < size; i++) {
        if (!in_word(text[i])) continue;
        u32 code = 0xFFFFFFFFu;
        for (; i < size && in_word(text[i]); i++) code = code >> 8 ^ table[(code ^ text[i]) & 0xFF];
        codes[count++] = code ^ 0xFFFFFFFFu;
    }
    return count;
}

/* Hashes of spans. */
void spans(const u64 *prefix, const u64 *inverse, const i64 *starts, const i64 *ends, i64 size, u64 *hashes) {
    for (i64 i = 0; i < size; i++) hashes[i] = (prefix[ends[i]] - prefix[starts[i]]) * inverse[starts[i]];
}
