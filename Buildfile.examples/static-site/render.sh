#!/bin/sh
# Renders every page: the first line is its title, blank lines separate paragraphs.
#
#     render.sh PAGES OUT
set -eu

pages=$1
out=$2
mkdir -p "$out"

# file name, title: what the navigation shows
for page in "$pages"/*.txt; do
    name=$(basename "$page" .txt)
    [ "$name" = 404 ] || printf '%s.html\t%s\n' "$name" "$(head -n 1 "$page")"
done > "$out/.nav"

for page in "$pages"/*.txt; do
    name=$(basename "$page" .txt)
    awk -F '\t' '
        function escaped(text,    i, c, result) {
            for (i = 1; i <= length(text); i++) {
                c = substr(text, i, 1)
                result = result (c == "&" ? "&amp;" : c == "<" ? "&lt;" : c == ">" ? "&gt;" : c)
            }
            return result
        }
        function filled(line, mark, text,    at) {
            while (at = index(line, mark))
                line = substr(line, 1, at - 1) text substr(line, at + length(mark))
            return line
        }
        FNR == 1    { file++ }
        file == 1   { nav = nav (nav ? " " : "") "<a href=\"" $1 "\">" escaped($2) "</a>"; next }
        file == 2 && FNR == 1 { title = escaped($0); next }
        file == 2 && /^$/     { if (body) body = body "</p>\n<p>"; next }
        file == 2             { body = (body ? body : "<p>") (body ~ /[^>]$/ ? "\n" : "") escaped($0); next }
        { print filled(filled(filled($0, "@TITLE@", title), "@NAV@", nav), "@BODY@", body "</p>") }
    ' "$out/.nav" "$page" template.html > "$out/$name.html"
    echo "rendered $name.html"
done
rm "$out/.nav"
