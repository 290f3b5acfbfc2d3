#include "json.h"

#include <string.h>

/* What is left to read. Everything below looks at `*at` only while `at < end`. */
typedef struct reader {
    const char *at, *end;
} reader;

/* Reading -------------------------------------------------------------------------------------------------------- */

static bool take(reader *self, char wanted)
{
    if (self->at >= self->end || *self->at != wanted)
        return false;
    self->at++;
    return true;
}

static bool take_word(reader *self, const char *word)
{
    const size_t length = strlen(word);

    if ((size_t)(self->end - self->at) < length || memcmp(self->at, word, length) != 0)
        return false;
    self->at += length;
    return true;
}

static void skip_space(reader *self)
{
    while (take(self, ' ') || take(self, '\t') || take(self, '\n') || take(self, '\r'))
        ;
}

static bool is_digit(const reader *self)
{
    return self->at < self->end && *self->at >= '0' && *self->at <= '9';
}

/* Strings -------------------------------------------------------------------------------------------------------- */

static void put_byte(json_string *self, unsigned byte)
{
    if (self->length < JSON_BYTES)
        self->bytes[self->length++] = (char)byte;
    else
        self->whole = false;
}

static void put_point(json_string *self, unsigned long point)
{
    if (point < 0x80) {
        put_byte(self, (unsigned)point);
    } else if (point < 0x800) {
        put_byte(self, (unsigned)(0xC0 | point >> 6));
        put_byte(self, (unsigned)(0x80 | (point & 0x3F)));
    } else if (point < 0x10000) {
        put_byte(self, (unsigned)(0xE0 | point >> 12));
        put_byte(self, (unsigned)(0x80 | (point >> 6 & 0x3F)));
        put_byte(self, (unsigned)(0x80 | (point & 0x3F)));
    } else {
        put_byte(self, (unsigned)(0xF0 | point >> 18));
        put_byte(self, (unsigned)(0x80 | (point >> 12 & 0x3F)));
        put_byte(self, (unsigned)(0x80 | (point >> 6 & 0x3F)));
        put_byte(self, (unsigned)(0x80 | (point & 0x3F)));
    }
}

/* Four hexadecimal digits. */
static bool take_unit(reader *self, unsigned long *unit)
{
    static const char digits[] = "0123456789abcdef0123456789ABCDEF";
    int i;

    *unit = 0;
    for (i = 0; i < 4; i++) {
        const char *found = self->at < self->end && *self->at != '\0' ? strchr(digits, *self->at) : NULL;

        if (found == NULL)
            return false;
        *unit = *unit << 4 | (unsigned long)((found - digits) & 0xF);
        self->at++;
    }
    return true;
}

/* After `\u`: one code point, of one unit or of a pair. Half a pair stands for none. */
static bool take_point(reader *self, json_string *string)
{
    unsigned long point, second = 0;

    if (!take_unit(self, &point))
        return false;
    if (point >= 0xD800 && point <= 0xDFFF) {
        if (point < 0xDC00 && take_word(self, "\\u") && !take_unit(self, &second))
            return false;
        if (second < 0xDC00 || second > 0xDFFF) {
            string->whole = false;
            return true;
        }
        point = 0x10000 + ((point & 0x3FF) << 10 | (second & 0x3FF));
    }
    put_point(string, point);
    return true;
}

static bool take_escape(reader *self, json_string *string)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    const char *found;

    if (take(self, 'u'))
        return take_point(self, string);
    found = self->at < self->end && *self->at != '\0' ? strchr(from, *self->at) : NULL;
    if (found == NULL)
        return false;
    self->at++;
    put_byte(string, (unsigned char)to[found - from]);
    return true;
}

static bool take_string(reader *self, json_string *string)
{
    string->length = 0;
    string->whole = true;
    if (!take(self, '"'))
        return false;
    while (!take(self, '"')) {
        if (take(self, '\\')) {
            if (!take_escape(self, string))
                return false;
        } else if (self->at < self->end && (unsigned char)*self->at >= ' ') {
            put_byte(string, (unsigned char)*self->at++);
        } else {
            return false;
        }
    }
    return true;
}

/* Numbers and the rest ------------------------------------------------------------------------------------------- */

static bool take_digits(reader *self)
{
    const char *first = self->at;

    while (is_digit(self))
        self->at++;
    return self->at > first;
}

/* Accumulated below zero, where there is one more than above. False: more than 64 bits. */
static bool read_integer(const char *at, const char *end, bool negative, int64_t *value)
{
    int64_t sum = 0;

    for (; at < end; at++) {
        const int digit = *at - '0';

        if (sum < (INT64_MIN + digit) / 10)
            return false;
        sum = sum * 10 - digit;
    }
    if (!negative && sum == INT64_MIN)
        return false;
    *value = negative ? sum : -sum;
    return true;
}

static bool take_number(reader *self, json_member *member)
{
    const bool negative = take(self, '-');
    const char *first = self->at, *last;
    bool fraction, power;

    if (!take_digits(self) || (*first == '0' && self->at > first + 1))
        return false;
    last = self->at;
    fraction = take(self, '.');
    if (fraction && !take_digits(self))
        return false;
    power = take(self, 'e') || take(self, 'E');
    if (power) {
        if (!take(self, '-'))
            (void)take(self, '+');
        if (!take_digits(self))
            return false;
    }
    if (!fraction && !power && read_integer(first, last, negative, &member->integer))
        member->kind = JSON_INTEGER;
    return true;
}

static bool take_value(reader *self, json_member *member)
{
    member->kind = JSON_OTHER;
    member->integer = 0;
    member->string.length = 0;
    if (self->at < self->end && *self->at == '"') {
        if (!take_string(self, &member->string))
            return false;
        member->kind = member->string.whole ? JSON_STRING : JSON_OTHER;
        return true;
    }
    return take_word(self, "true") || take_word(self, "false") || take_word(self, "null")
        || take_number(self, member);
}

/* The object ----------------------------------------------------------------------------------------------------- */

static bool take_members(reader *self, json_object *object)
{
    skip_space(self);
    if (take(self, '}'))
        return true;
    do {
        json_member *member;

        if (object->count == JSON_MEMBERS)
            return false;
        member = &object->member[object->count++];
        skip_space(self);
        if (!take_string(self, &member->key))
            return false;
        skip_space(self);
        if (!take(self, ':'))
            return false;
        skip_space(self);
        if (!take_value(self, member))
            return false;
        skip_space(self);
    } while (take(self, ','));
    return take(self, '}');
}

/* How many bytes follow the first of one UTF-8 character, -1 for what begins none. The smallest code point of each
 * length is in `least`: what could be written shorter is no UTF-8. */
static int follow_count(unsigned first)
{
    if (first < 0x80)
        return 0;
    if (first < 0xC2 || first > 0xF4)
        return -1;
    return first < 0xE0 ? 1 : first < 0xF0 ? 2 : 3;
}

static bool is_utf8(const char *at, const char *end)
{
    static const unsigned long least[] = {0, 0x80, 0x800, 0x10000};

    while (at < end) {
        const unsigned first = (unsigned char)*at++;
        const int count = follow_count(first);
        unsigned long point;
        int i;

        if (count < 0 || end - at < count)
            return false;
        point = count == 0 ? first : first & (0x3FU >> count);
        for (i = 0; i < count; i++) {
            const unsigned next = (unsigned char)*at++;

            if ((next & 0xC0) != 0x80)
                return false;
            point = point << 6 | (next & 0x3F);
        }
        if (point < least[count] || point > 0x10FFFF || (point >= 0xD800 && point <= 0xDFFF))
            return false;
    }
    return true;
}

bool json_parse(const char *data, size_t length, json_object *object)
{
    reader self;

    self.at = data;
    self.end = data + length;
    object->count = 0;
    if (!is_utf8(self.at, self.end))
        return false;
    skip_space(&self);
    if (!take(&self, '{') || !take_members(&self, object))
        return false;
    skip_space(&self);
    return self.at == self.end;
}

bool json_is(const json_string *string, const char *word)
{
    const size_t length = strlen(word);

    return string->whole && string->length == length && memcmp(string->bytes, word, length) == 0;
}

const json_member *json_find(const json_object *object, const char *key)
{
    size_t i;

    for (i = object->count; i > 0; i--)
        if (json_is(&object->member[i - 1].key, key))
            return &object->member[i - 1];
    return NULL;
}
