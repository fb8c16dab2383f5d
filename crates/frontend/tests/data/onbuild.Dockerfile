FROM alpine AS base
ONBUILD ARG X=1
ONBUILD RUN echo $X
FROM base AS child
RUN own
