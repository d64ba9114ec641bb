#!/bin/sh
# Prepares a trial of the credit example with daemons: one folder for each party, with key, settings, tables and login.
# Here one person plays all three; in life each party makes its key on its own machine and hands out the public half.
#
#     sh examples/credit/deploy.sh FOLDER [BROKER_URL]
#
# With BROKER_PASSWORD all three log in as BROKER_USER. Without it each party gets a login of its own, with the least
# rights, and FOLDER/definitions.json is for the broker to load; BROKER_URL then ends in the virtual host `tercet`.
# `tercet` must be on the PATH.
set -eu
umask 077
here=$(dirname "$0")
folder=${1:?usage: deploy.sh FOLDER [BROKER_URL]}
password=${BROKER_PASSWORD:-}
user=${BROKER_USER:-tercet}
url=${2:-amqp://localhost:5672/$([ -n "$password" ] || echo tercet)}
parties="bank card notary"

keys=""
for party in $parties; do
    mkdir -p "$folder/$party"
    key=$(tercet keygen "$folder/$party/$party.key")
    keys="$keys;s|what .tercet keygen. printed for $party|$key|"
done

for party in $parties; do
    sed -e "${keys#;}" \
        -e "s|\"keys/$party.key\"|\"$party.key\"|" \
        -e "s|\"state/$party\"|\"state\"|" \
        -e "s|^url = .*|url = \"$url\"\ncredentials = \"credentials.toml\"|" \
        "$here/$party.toml" >"$folder/$party/$party.toml"
    if [ -n "$password" ]; then
        printf 'username = "%s"\npassword = "%s"\n' "$user" "$password" >"$folder/$party/credentials.toml"
    fi
done
if [ -z "$password" ]; then
    # shellcheck disable=SC2086 # a list
    said=$(tercet broker definitions $parties --operator admin --out "$folder/definitions.json" 2>&1) || {
        echo "$said" >&2
        exit 1
    }
    chmod 644 "$folder/definitions.json" # RabbitMQ reads it as a user of its own; it holds salted hashes
    for party in $parties; do
        mv "$folder/$party.credentials.toml" "$folder/$party/credentials.toml"
    done
fi
cp "$here/bank.csv.gz" "$here/bank_new.csv" "$here/select.toml" "$folder/bank/"
cp "$here/card.parquet" "$here/card_new.parquet" "$folder/card/"
for job in job mlp predict statistics woe; do
    cp "$here/$job.toml" "$folder/bank/"
    cp "$here/$job.toml" "$folder/card/"
done
echo "$folder is ready: start each agent with its own $folder/PARTY/PARTY.toml"
