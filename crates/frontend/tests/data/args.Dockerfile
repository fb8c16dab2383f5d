ARG BASE=alpine
ARG UNUSED
FROM ${BASE}:3 AS one
ARG UNUSED=x
ARG A B=${A:-b}
ENV C=$B D="$C e"
RUN echo $A $B $UNUSED
FROM one
RUN echo $B
