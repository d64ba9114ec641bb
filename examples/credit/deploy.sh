#!/bin/sh
# Prepares a trial of the credit example with daemons: one folder for each party, with key, settings, tables and login.
# Here one person plays all three; in life each party makes its key on its own machine and hands out the public half.
#
#     sh examples/credit/deploy.sh FOLDER [BROKER_URL]
#
# The login at the broker comes from BROKER_USER and BROKER_PASSWORD; without a password one is drawn and written to
# FOLDER/rabbitmq.env, for a broker that is yet to be started. `tercet` must be on the PATH.
set -eu
umask 077
here=$(dirname "$0")
folder=${1:?usage: deploy.sh FOLDER [BROKER_URL]}
url=${2:-amqp://localhost:5672/}
user=${BROKER_USER:-tercet}
password=${BROKER_PASSWORD:-$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')}
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
    printf 'username = "%s"\npassword = "%s"\n' "$user" "$password" >"$folder/$party/credentials.toml"
done
cp "$here/bank.csv.gz" "$here/bank_new.csv" "$here/job.toml" "$here/mlp.toml" "$here/predict.toml" "$folder/bank/"
cp "$here/card.parquet" "$here/card_new.parquet" "$here/job.toml" "$here/mlp.toml" "$here/predict.toml" "$folder/card/"
printf 'RABBITMQ_DEFAULT_USER=%s\nRABBITMQ_DEFAULT_PASS=%s\n' "$user" "$password" >"$folder/rabbitmq.env"
echo "$folder is ready: start each agent with its own $folder/PARTY/PARTY.toml"
