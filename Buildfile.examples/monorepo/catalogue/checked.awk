# fruit.csv to fruit.tsv; a line that is wrong ends the build.
BEGIN { FS = ","; OFS = "\t" }

/^#/ || /^$/ { next }

NF != 2 || $1 !~ /^[a-z]+$/ || $2 !~ /^[0-9]+\.[0-9][0-9]$/ || ($1 in seen) {
    print FILENAME ":" FNR ": not a fruit with a price: " $0 > "/dev/stderr"
    exit 1
}

{ seen[$1]; print $1, $2 }
