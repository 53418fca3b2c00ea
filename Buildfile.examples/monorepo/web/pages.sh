# The web site: the price list and the manual.
#
#     pages.sh OUT VERSION
set -eu

out=$1
version=$2
currency=$(cat /srv/orchard/currency)
mkdir -p "$out"

{
    echo "<!DOCTYPE html><title>orchard $version</title><h1>Prices of a kilogram</h1><table>"
    while read -r name price; do
        echo "<tr><td>$name</td><td>$price $currency</td></tr>"
    done < /srv/orchard/fruit.tsv
    echo '</table><p><a href="manual.txt">How to use the shop</a></p>'
} > "$out/index.html"
cp /manual/manual.txt "$out/"
