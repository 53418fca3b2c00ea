#!/bin/sh
# The shop on the command line.
set -eu
. /usr/local/lib/orchard/money.sh

fruit=/srv/orchard/fruit.tsv

price_of() {
    awk -v name="$1" '$1 == name { print $2; found = 1 } END { exit !found }' "$fruit" || {
        echo "shop: there is no $1" >&2
        return 1
    }
}

case ${1:-help} in
    list)
        while read -r name price; do
            printf '%-8s %6s\n' "$name" "$price"
        done < "$fruit"
        ;;
    price)
        one=$(price_of "$2")
        paper $(($(cents "$one") * ${3:-1})) | sed "s/\$/ $(cat /srv/orchard/currency)/"
        ;;
    version) echo "$ORCHARD_VERSION" ;;
    help) cat /usr/local/share/orchard/manual.txt ;;
    *)
        echo "shop: there is no command $1; see 'shop help'" >&2
        exit 2
        ;;
esac
