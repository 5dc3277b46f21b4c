#!/bin/sh
# seed.sh CORPUS: lays what fuzzing starts from into fuzz/corpus, from a folder of captures (its hostile ones first) and from this tree.
# Nothing of it is committed.
set -eu
cd "$(dirname "$0")"

if [ $# -ne 1 ] || [ ! -d "$1" ]; then
    echo "usage: fuzz/seed.sh CORPUS (a folder with captures, such as the one of MIRRORTAP_CORPUS)" >&2
    exit 64
fi
captures=$1

# seed TARGET FILE: a copy under a name made of its content, so that a second run adds nothing.
seed() {
    mkdir -p "corpus/$1"
    cp "$2" "corpus/$1/$(sha256sum <"$2" | cut -c1-16)"
}

piece=$(mktemp)
trap 'rm -f "$piece"' EXIT
text() {
    cat >"$piece"
    seed "$1" "$piece"
}

# captures: whole, where they are small enough to be changed in a useful way
find "$captures" -type f \( -name '*.pcap' -o -name '*.pcapng' \) -size -64k | sort >"$piece.list"
while IFS= read -r file; do
    for target in capfile replay; do
        seed "$target" "$file"
    done
    # recover takes the kind of file from the first byte: 0 pcap, 1 pcapng
    case $file in
    *.pcapng) kind='\001' ;;
    *) kind='\000' ;;
    esac
    { printf "$kind" && cat "$file"; } >"$piece"
    seed recover "$piece"
    # what is behind the file header and the first record header: one frame
    tail -c +41 "$file" | head -c 2048 >"$piece"
    for target in headers decap; do
        seed "$target" "$piece"
    done
done <"$piece.list"
rm -f "$piece.list"

seed config ../config/mirrortap.toml
sed 's/^#\([a-z_]* =\)/\1/' ../config/mirrortap.toml | text config
printf '[[session]]\nname = "web"\nvni = [1, "5-9"]\nsource = ["10.0.0.0/8"]\npacket_length = 200\n[session.filter]\nexpression = "tcp port 80"\n' | text config

# expressions of the page on filters, behind the byte and before the lengths that the target takes
grep -o 'expression = "[^"]*"' ../docs/filters.md ../config/mirrortap.toml | sed 's/^[^"]*"//; s/"$//' |
    while IFS= read -r expression; do
        printf '\000%s' "$expression" | text expression
        printf '\002%s' "$expression" | text filter
    done
for expression in 'tcp port 443' 'ip6 and not tcp' 'greater 300' 'ip[8] == 64' 'net 10.0.0.0/8' 'tcp[tcpflags] & (tcp-syn|tcp-ack) != 0'; do
    printf '\000%s' "$expression" | text expression
done

printf '%s' '{"TrafficMirrorFilters":[{"TrafficMirrorFilterId":"tmf-0123456789abcdef0","IngressFilterRules":[{"RuleNumber":100,"RuleAction":"accept","Protocol":6,"DestinationPortRange":{"FromPort":443,"ToPort":443},"DestinationCidrBlock":"10.0.0.0/8","SourceCidrBlock":"0.0.0.0/0","TrafficDirection":"ingress"}],"EgressFilterRules":[],"NetworkServices":["amazon-dns"]}]}' | text amazon
find "$captures" ../tests -type f -name '*.json' -size -64k | while IFS= read -r file; do
    seed amazon "$file"
done

printf '%s\n' '{"sequence":1,"time":"2026-01-01T00:00:00.000000000Z","run":"00","kind":"run","version":"0","sessions":[],"previous":"0000000000000000000000000000000000000000000000000000000000000000"}' | text manifest
{
    cat "$piece"
    printf '%s' '{"sequence":2,"time":"2026-01-01T00:00:00.000000000Z","run":"00","kind":"published","name":"web/a","bytes":3,"sha256":"'
} | text manifest

# flow logs: recover takes the format from the first byte: 2 and 3 are packed by the target
header='version account-id interface-id srcaddr dstaddr srcport dstport protocol packets bytes start end action log-status'
line='2 123456789010 eni-1235b8ca123456789 172.31.16.139 172.31.16.21 20641 22 6 20 4249 1418530010 1418530070 ACCEPT OK'
printf '\002%s\n%s\n%s\n' "$header" "$line" "$line" | text flow_recover
printf '\003%s\n%s\n%s' "$header" "$line" "$line" | text flow_recover
{ printf '\000' && printf '%s\n%s\n' "$header" "$line" | gzip; } | text flow_recover
{ printf '\001' && printf '%s\n%s\n' "$header" "$line" | gzip | head -c 120; } | text flow_recover
printf '%s' '{"NetworkInterfaces":[{"NetworkInterfaceId":"eni-1235b8ca123456789","OwnerId":"123456789010","VpcId":"vpc-1","SubnetId":"subnet-1","PrivateIpAddress":"10.0.0.1","PrivateIpAddresses":[{"PrivateIpAddress":"10.0.0.2"}],"Ipv6Addresses":[{"Ipv6Address":"2001:db8::1"}],"MacAddress":"02:2f:8f:b0:cf:75","AvailabilityZone":"eu-central-1a","TagSet":[{"Key":"Name","Value":"a b"}]}]}' | text interfaces
printf '0123456789abcdef%s' '{"prefixes":[{"ip_prefix":"52.92.0.0/16","service":"S3"},{"ip_prefix":"52.0.0.0/8","service":"AMAZON"}],"ipv6_prefixes":[{"ipv6_prefix":"2600:1f00::/24","service":"EC2"}]}' | text ip_ranges
printf '\001\000\100x\001\000y' | text flow_parquet

for target in corpus/*; do
    echo "$(find "$target" -type f | wc -l) seeds for $(basename "$target")"
done
