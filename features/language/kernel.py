"""The loop of a compiled program: customer and request against all conditions of all rules.

The truth table holds 0 false, 1 unknown, 2 true, so that Kleene's and is the least, his or the greatest, and not x is
2 - x. It begins with these three constants, then come the conditions in groups of the same operation on the same
slot, then the nodes, each after its parts.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit

FALSE: Final = 0
UNKNOWN: Final = 1
TRUE: Final = 2
N_CONSTANTS: Final = 3
N_SIZES: Final = 5

# Kinds of a slot's value
ABSENT: Final = 0
NUMBER: Final = 1
TRUTH: Final = 2
TEXT: Final = 3
INSTANT: Final = 4
OTHER_KIND: Final = 5

# Operations
LESS: Final = 0
AT_MOST: Final = 1
MORE: Final = 2
AT_LEAST: Final = 3
BEFORE: Final = 4  # these four and SAME_TIME compare times
UNTIL: Final = 5
AFTER: Final = 6
SINCE: Final = 7
SAME_TIME: Final = 8
IN_NUMBERS: Final = 9
IN_TEXTS: Final = 10
IS_TRUTH: Final = 11
IS_MISSING: Final = 12
IN_NOTHING: Final = 13
GIVEN: Final = 14  # worked out outside

FEW = 8  # sets up to this size are looked through one by one


@njit(cache=True, error_model="numpy")  # keeps the lock: a decision waits longer for it than the loop takes
def run(now, slots, given, whole, real, out):  # type: ignore[no-untyped-def]
    """Writes 1 true, 0 false, -1 unknown for each rule into `out`.

    slots (n_slots, 4): kind, number, code of the text, time. The program itself comes as one array of whole numbers
    and one of others, because each array that is handed over costs more than a hundred conditions. `whole` begins
    with the sizes n_groups, n_atoms, n_flat, n_nodes, n_parts; then come groups (6, n_groups): operation, slot,
    negated, relative, first and last + 1 condition; set_start (n_atoms + 1,), set_codes (n_flat,); nodes (3, n_nodes):
    whether `and`, first and last + 1 of its parts; parts (n_parts,); and roots (n_rules,). `real` is literal
    (n_atoms,), set_numbers (n_flat,).
    """
    n_groups, n_atoms, n_flat = np.int64(whole[0]), np.int64(whole[1]), np.int64(whole[2])
    n_nodes, n_parts = np.int64(whole[3]), np.int64(whole[4])
    starts_at = N_SIZES + 6 * n_groups
    codes_at = starts_at + n_atoms + 1
    nodes_at = codes_at + n_flat
    parts_at = nodes_at + 3 * n_nodes
    groups = whole[N_SIZES:starts_at].reshape((6, n_groups))
    set_start, set_codes = whole[starts_at:codes_at], whole[codes_at:nodes_at]
    nodes = whole[nodes_at:parts_at].reshape((3, n_nodes))
    parts, roots = whole[parts_at : parts_at + n_parts], whole[parts_at + n_parts :]
    literal, set_numbers = real[:n_atoms], real[n_atoms:]
    table = np.empty(N_CONSTANTS + n_atoms + n_nodes, np.int8)
    table[0], table[1], table[2] = 0, 1, 2
    base = 3
    for g in range(groups.shape[1]):
        op, slot, negated, relative = groups[0, g], groups[1, g], groups[2, g], groups[3, g]
        first, last = groups[4, g], groups[5, g]
        if op == GIVEN:
            for a in range(first, last):
                found = given[int(literal[a])]
                table[base + a] = 2 - found if negated else found
            continue
        kind = int(slots[slot, 0])
        yes = 0 if negated else 2
        no = 2 - yes
        if op == IS_MISSING:
            found = yes if kind == ABSENT else no
            for a in range(first, last):
                table[base + a] = found
        elif op == IN_NOTHING:
            found = 1 if kind == ABSENT else no
            for a in range(first, last):
                table[base + a] = found
        elif op == IS_TRUTH:
            number = slots[slot, 1]
            for a in range(first, last):
                table[base + a] = 1 if kind != TRUTH else yes if number == literal[a] else no
        elif op <= AT_LEAST:
            number = slots[slot, 1]
            if kind != NUMBER:
                for a in range(first, last):
                    table[base + a] = 1
            elif op == LESS:
                for a in range(first, last):
                    table[base + a] = yes if number < literal[a] else no
            elif op == AT_MOST:
                for a in range(first, last):
                    table[base + a] = yes if number <= literal[a] else no
            elif op == MORE:
                for a in range(first, last):
                    table[base + a] = yes if number > literal[a] else no
            else:
                for a in range(first, last):
                    table[base + a] = yes if number >= literal[a] else no
        elif op <= SAME_TIME:
            time = slots[slot, 3]
            start = now if relative else 0.0
            if time != time:
                for a in range(first, last):
                    table[base + a] = 1
            elif op == BEFORE:
                for a in range(first, last):
                    table[base + a] = yes if time < literal[a] + start else no
            elif op == UNTIL:
                for a in range(first, last):
                    table[base + a] = yes if time <= literal[a] + start else no
            elif op == AFTER:
                for a in range(first, last):
                    table[base + a] = yes if time > literal[a] + start else no
            elif op == SINCE:
                for a in range(first, last):
                    table[base + a] = yes if time >= literal[a] + start else no
            else:
                for a in range(first, last):
                    table[base + a] = yes if time == literal[a] + start else no
        elif op == IN_NUMBERS:
            number = slots[slot, 1]
            for a in range(first, last):
                if kind != NUMBER:
                    table[base + a] = 1
                    continue
                low, high = set_start[a], set_start[a + 1]
                while high - low > FEW:
                    middle = (low + high) // 2
                    if set_numbers[middle] <= number:
                        low = middle
                    else:
                        high = middle
                found = no
                for k in range(low, high):
                    if set_numbers[k] == number:
                        found = yes
                table[base + a] = found
        elif kind == TEXT:  # IN_TEXTS from here on
            code = int(slots[slot, 2])
            for a in range(first, last):
                low, high = set_start[a], set_start[a + 1]
                while high - low > FEW:
                    middle = (low + high) // 2
                    if set_codes[middle] <= code:
                        low = middle
                    else:
                        high = middle
                found = no
                for k in range(low, high):
                    if set_codes[k] == code:
                        found = yes
                table[base + a] = found
        else:  # a text may name the instant that the value is
            time = slots[slot, 3]
            for a in range(first, last):
                found = 1
                if kind == INSTANT:
                    found = no
                    for k in range(set_start[a], set_start[a + 1]):
                        if set_numbers[k] == time:
                            found = yes
                            break
                        if set_numbers[k] != set_numbers[k]:
                            found = 1
                table[base + a] = found
    n_before = base + literal.shape[0]
    for n in range(nodes.shape[1]):  # without breaks: a wrongly guessed branch costs more than a few parts
        if nodes[0, n]:
            found = 2
            for k in range(nodes[1, n], nodes[2, n]):
                found = min(found, table[parts[k]])
        else:
            found = 0
            for k in range(nodes[1, n], nodes[2, n]):
                found = max(found, table[parts[k]])
        table[n_before + n] = found
    for r in range(roots.shape[0]):
        found = table[roots[r]]
        out[r] = 1 if found == 2 else 0 if found == 0 else -1
