FROM alpine AS one
RUN a
FROM alpine AS never
RUN b
FROM one
COPY --from=busybox /c /c
