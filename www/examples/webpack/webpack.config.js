// Nothing here is for samlora: webpack 5 finds its worker and its wasm by itself.
export default {
  entry: "./src/main.js",
  output: { filename: "main.js" },
};
