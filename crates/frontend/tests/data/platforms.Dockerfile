FROM --platform=$BUILDPLATFORM golang AS build
ARG TARGETARCH
RUN build --for $TARGETARCH
FROM --platform=linux/arm/v7 debian
COPY --from=build /a /a
