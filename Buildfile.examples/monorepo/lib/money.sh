# Sums of money are whole cents everywhere but on paper.

# cents 2.40 -> 240
cents() {
    echo "$1" | awk '/^[0-9]+(\.[0-9][0-9]?)?$/ { printf "%d\n", $1 * 100 + 0.5; found = 1 } END { exit !found }'
}

# paper 240 -> 2.40
paper() {
    echo "$1" | awk '{ printf "%d.%02d\n", int($1 / 100), $1 % 100 }'
}
