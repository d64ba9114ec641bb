# An agent of any party: `docker run ... agent bank.toml`, with the party's own folder mounted at /party.
# Settings, keys and tables are mounted; none of them is in the image.
# Untested: written without a Docker engine at hand. Its commands were run one by one without Docker.

FROM python:3.13-slim AS build
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY agents agents
COPY broker broker
COPY docs docs
COPY examples examples
COPY mpc mpc
COPY schemas schemas
COPY tables tables
RUN pip install --no-cache-dir --prefix=/installed .

FROM python:3.13-slim
COPY --from=build /installed /usr/local
# A key must be readable for its owner alone, so run as whoever owns the mounted folder: `user:` or `--user`.
RUN useradd --uid 10001 --no-create-home tercet && install -d -o tercet -g tercet /party
USER tercet
WORKDIR /party
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
ENTRYPOINT ["tercet"]
CMD ["--help"]
